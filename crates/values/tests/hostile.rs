//! Expressions that are nonsense, and memory that is noise: nothing may panic, nothing may take
//! long, everything stays bounded.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Address;
use proptest::prelude::*;
use symbols::{LinkAddress, Module, NoFiles};
use values::{Expression, Loaded, Options, Standing, Target, Value, Values};

/// Memory and registers that are noise.
struct Noise {
    modules: Vec<Loaded>,
    standing: Standing,
    seed: u64,
    /// Of 256 pages so many are not there.
    missing: u64,
    /// What addresses look like: small numbers, ones close together, any.
    mask: u64,
}

fn mixed(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Target for Noise {
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool {
        if mixed(self.seed ^ (address.0 >> 12)) & 0xff < self.missing {
            return false;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = address.0.wrapping_add(index as u64);
            let word = mixed(self.seed ^ (at & !7)) & self.mask;
            *byte = (word >> (8 * (at & 7))) as u8;
        }
        true
    }

    fn register(&self, number: u16) -> Option<u128> {
        let value = mixed(self.seed.wrapping_add(u64::from(number))) & self.mask;
        (value & 7 != 1).then(|| u128::from(value) << (value & 31))
    }

    fn modules(&self) -> &[Loaded] {
        &self.modules
    }

    fn standing(&self) -> Option<Standing> {
        Some(self.standing)
    }

    fn thread_local(&self, _: usize, offset: u64) -> Option<Address> {
        Some(Address(mixed(offset) & self.mask))
    }
}

fn compiled(compiler: &[&str], source: &str, directory: &Path) -> Arc<Module> {
    let source = support::programs().join(source);
    let source = source.to_str().unwrap();
    support::run(directory, &[compiler, &[source, "-o", "a.out"]].concat());
    let bytes = std::fs::read(directory.join("a.out")).unwrap();
    Arc::new(Module::load(bytes.into(), Arc::new(NoFiles), &Default::default()).unwrap())
}

/// An address with many variables in sight.
fn last_line(module: &Module, source: &str, marked: usize) -> LinkAddress {
    let text = std::fs::read_to_string(support::programs().join(source)).unwrap();
    let mut lines = (1u32..).zip(text.lines()).filter(|(_, line)| line.contains("STOP"));
    let line = lines.nth(marked).unwrap().0;
    let files = module.source_files();
    let file = files.iter().find(|file| file.path.ends_with(source)).unwrap();
    let rows = module.lines_of_file(&file.path);
    let row = rows.iter().find(|row| row.line == line && row.is_stmt);
    row.unwrap_or_else(|| panic!("no line {line}")).range.start
}

/// How many values a tree has; all of them have to be small.
fn check(value: &Value, options: &Options) -> usize {
    assert!(value.text.chars().count() <= options.text_max as usize + 1, "{}", value.text);
    assert!(value.name.len() < 2000 && value.expression.len() < 4000);
    assert!(value.unfolded.len() <= options.children_max as usize);
    1 + value.unfolded.iter().map(|child| check(child, options)).sum::<usize>()
}

fn noise(compiler: &[&str], source: &str, marked: usize) {
    let directory = tempfile::tempdir().unwrap();
    let module = compiled(compiler, source, directory.path());
    let address = last_line(&module, source, marked);
    let values = Values::default();
    let options = Options { depth: 2, children_max: 20, ..Options::default() };
    let mut seen = 0;
    for seed in 0..24 {
        let mask = [u64::MAX, 0x7fff_ffff_ffff, 0xffff, 0xff, 0x3f][seed as usize % 5];
        let standing = Standing { module: 0, address, instance: None, cfa: None };
        let loaded = Loaded { module: Arc::clone(&module), bias: 0 };
        let missing = [0, 40, 128][seed as usize % 3];
        let target = Noise { modules: vec![loaded], standing, seed, missing, mask };
        let begin = Instant::now();
        let locals = values.variables(&target, &options).unwrap();
        for local in &locals {
            seen += check(&local.value, &options);
            // What is said to give a value gives it.
            for child in local.value.unfolded.iter().take(3) {
                let expression = Expression::parse(&child.expression).unwrap();
                if let Ok(again) = values.show(&expression, &target, &[], &Options::default()) {
                    assert_eq!(again.text, child.text, "{}", child.expression);
                }
            }
        }
        let taken = begin.elapsed();
        assert!(taken < Duration::from_secs(20), "seed {seed}: {taken:?}");
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn noise_in_c() {
    noise(&["gcc", "-g"], "plain.c", 1);
}

#[test]
fn noise_in_cpp() {
    noise(&["g++", "-g", "-std=c++20"], "library.cpp", 1);
}

#[test]
fn noise_in_rust() {
    noise(&["rustc", "-g", "--edition", "2021"], "library.rs", 0);
}

/// Names and signs that mean something, in any order.
const WORDS: &[&str] = &[
    "notes",
    "e",
    "x",
    "matrix",
    "text",
    "names",
    "row",
    "wide",
    "huge",
    "number",
    "single",
    "note_t",
    "int",
    "unsigned",
    "struct note",
    "char",
    "(",
    ")",
    "[",
    "]",
    ".",
    "->",
    "*",
    "&",
    "+",
    "-",
    "/",
    "%",
    "<<",
    ">>",
    "<",
    ">",
    "==",
    "!=",
    "&&",
    "||",
    "!",
    "~",
    "?",
    ":",
    "@",
    "#",
    ",",
    "::",
    "as",
    "sizeof",
    "0",
    "1",
    "3",
    "0x10",
    "1.5",
    "1e300",
    "'a'",
    "\"rent\"",
    "$rax",
    "$xmm0",
    "~1",
    "..",
    "static_cast<",
    "balance",
    "next",
    "170141183460469231731687303715884105727",
    "-1",
    ".size()",
    "u64",
    "$0",
    "decltype(",
    "(anonymous namespace)",
    "=",
    "++",
    "true",
    "_Bool",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(error.column() <= text.chars().count() + 1);
        }
    }

    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(0..WORDS.len(), 0..20)) {
        let words: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
        let _ = Expression::parse(&words.join(" "));
        let _ = Expression::parse(&words.concat());
    }
}

/// The same words in a frame, over noise and over what was there.
#[test]
fn any_words_are_evaluated_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let module = compiled(&["gcc", "-g"], "plain.c", directory.path());
    let address = last_line(&module, "plain.c", 1);
    let standing = Standing { module: 0, address, instance: None, cfa: None };
    let loaded = Loaded { module, bias: 0 };
    let target = Noise { modules: vec![loaded], standing, seed: 7, missing: 20, mask: 0xffff_ffff };
    let values = Values::default();
    let (mut known, mut state) = (0, 1u64);
    for _ in 0..20_000 {
        let mut text = String::new();
        state = mixed(state);
        for _ in 0..1 + state % 7 {
            state = mixed(state);
            text.push_str(WORDS[(state % WORDS.len() as u64) as usize]);
            text.push(' ');
        }
        let Ok(expression) = Expression::parse(&text) else { continue };
        let options = Options { depth: 1, children_max: 3, ..Options::default() };
        if let Ok(value) = values.show(&expression, &target, &[], &options) {
            check(&value, &Options::default());
            known += 1;
        }
        let _ = values.test(&expression, &target, &[]);
    }
    assert!(known > 300, "{known}");
}

/// The longest chains that are allowed take little stack.
#[test]
fn long_chains() {
    let directory = tempfile::tempdir().unwrap();
    let module = compiled(&["gcc", "-g"], "plain.c", directory.path());
    let address = last_line(&module, "plain.c", 1);
    let standing = Standing { module: 0, address, instance: None, cfa: None };
    let loaded = Loaded { module, bias: 0 };
    let target = Noise { modules: vec![loaded], standing, seed: 7, missing: 0, mask: u64::MAX };
    let values = Values::default();
    for text in [
        "1".to_owned() + &"+1".repeat(190),
        "notes->next".to_owned() + &"->next".repeat(190),
        "x".to_owned() + &"?x:x".repeat(60),
        "- ".repeat(90) + "1",
        "(int)".repeat(90) + "1",
        "notes".to_owned() + &"#1".repeat(190),
        "matrix".to_owned() + &"[0..2]".repeat(100),
    ] {
        let expression = Expression::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        // Each thread of the product has at least so much.
        std::thread::scope(|scope| {
            let evaluate = || drop(values.show(&expression, &target, &[], &Options::default()));
            let thread = std::thread::Builder::new().stack_size(2 << 20);
            thread.spawn_scoped(scope, evaluate).unwrap().join().unwrap();
        });
    }
}

/// What nests without an end is refused, not followed.
#[test]
fn nesting_has_an_end() {
    for text in [
        "(".repeat(10_000),
        "-".repeat(10_000) + "1",
        "*".repeat(10_000) + "p",
        "1".to_owned() + &"?1:1".repeat(3_000),
        "1".to_owned() + &"+1".repeat(8_000),
        "a".to_owned() + &".a".repeat(8_000),
        "(int".to_owned() + &"*".repeat(10_000) + ")1",
        "a<".repeat(5_000),
        "x".repeat(1 << 20),
    ] {
        let begin = Instant::now();
        let _ = Expression::parse(&text);
        assert!(begin.elapsed() < Duration::from_secs(5), "{}", &text[..10]);
    }
}
