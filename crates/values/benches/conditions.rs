//! How often conditions can be evaluated in a second: `cargo bench -p values`.

use std::sync::Arc;
use std::time::Instant;

use model::Address;
use symbols::{LinkAddress, Module, NoFiles, Options};
use values::{Expression, Loaded, Standing, Target, Values};

const PROGRAM: &str = "
struct note { int serial; char text[12]; long balance; struct note *next; };
long calls;
long set_note(struct note *e, int amount) {
    for (int i = 0; i < amount; i++)
        e->balance += i; /* here */
    return e->balance + calls;
}
int main(int argc, char **argv) {
    struct note note = {argc, \"rent\", 7, 0};
    note.next = &note;
    return set_note(&note, argc);
}
";

/// All memory holds pointers to itself.
struct Memory {
    modules: Vec<Loaded>,
    standing: Standing,
}

impl Target for Memory {
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (0x7fff_0000u64 >> (8 * ((address.0 + index as u64) & 7))) as u8;
        }
        true
    }

    fn register(&self, _: u16) -> Option<u128> {
        Some(0x7fff_1000)
    }

    fn modules(&self) -> &[Loaded] {
        &self.modules
    }

    fn standing(&self) -> Option<Standing> {
        Some(self.standing)
    }
}

/// Time of the processor that this thread had: others may be at work.
fn cpu_nanoseconds() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("scheduler times");
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("program.c");
    std::fs::write(&source, PROGRAM).expect("a source file");
    for options in [["-O0", "-g"], ["-O2", "-g"]] {
        let program = directory.path().join("program");
        let mut compiler = std::process::Command::new("gcc");
        let status = compiler.args(options).arg(&source).arg("-o").arg(&program).status();
        assert!(status.expect("gcc").success());
        let bytes = std::fs::read(&program).expect("the program");
        let module = Module::load(bytes.into(), Arc::new(NoFiles), &Options::default());
        let module = Arc::new(module.expect("a module"));
        let code = module.functions_named("set_note");
        let range = code[0].instances[0].ranges[0].clone();
        let rows = module.all_lines();
        let inside = |row: &&symbols::Line| row.line == 6 && range.contains(&row.range.start);
        let address = rows.iter().find(inside).map_or(range.start, |row| row.range.start);
        let cfa = Some(Address(0x7fff_2000));
        let instance = module.activations(address).first().map(|a| a.instance);
        let standing = Standing { module: 0, address: LinkAddress(address.0), instance, cfa };
        let target = Memory { modules: vec![Loaded { module, bias: 0 }], standing };
        let values = Values::default();
        for text in [
            "1 == 1",
            "i >= 16",
            "amount == 3 && i >= 16",
            "e->balance > 100",
            "calls == 2",
            "e->next->next->serial == 5",
            "e->text == \"rent\"",
        ] {
            let condition = Expression::parse(text).expect("an expression");
            let begin = Instant::now();
            let (cpu, mut count) = (cpu_nanoseconds(), 0u32);
            while begin.elapsed().as_millis() < 300 {
                for _ in 0..1000 {
                    let _ = std::hint::black_box(values.test(&condition, &target, &[]));
                }
                count += 1000;
            }
            let each = (cpu_nanoseconds() - cpu) / u64::from(count);
            println!("{:4} {each:6} ns  {text}", options[0]);
        }
    }
}
