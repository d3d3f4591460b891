//! Things found from somewhere: static variables of a unit, tables of traits, enumerators.

mod support;

use std::cell::Cell;

use model::Address;
use symbols::{Frame, LinkAddress, Module, NameKind, Place};

struct Nowhere(Cell<u32>);

impl Frame for Nowhere {
    fn register(&self, _: u16) -> Option<u128> {
        None
    }

    fn memory(&self, _: Address, _: &mut [u8]) -> bool {
        self.0.set(self.0.get() + 1);
        false
    }

    fn bias(&self) -> u64 {
        0
    }
}

fn address_of(module: &Module, variable: symbols::DieId) -> LinkAddress {
    let location = module.locate(variable, LinkAddress(0), &Nowhere(Cell::new(0))).unwrap();
    match location.whole() {
        Some(Place::Memory(address)) => LinkAddress(address.0),
        place => panic!("{place:?}"),
    }
}

/// Two files with a static variable of the same name: each function means its own.
#[test]
fn static_variables_of_units() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let other = "static int calls = 2; int other(void) { return calls++; }\n";
    let main =
        "int other(void); static int calls = 1; int main(void) { return calls++ + other(); }\n";
    std::fs::write(path.join("other.c"), other).unwrap();
    std::fs::write(path.join("main.c"), main).unwrap();
    support::run(path, &["gcc", "-g", "main.c", "other.c", "-o", "a.out"]);
    let module = support::load(&path.join("a.out"));
    let symbols = module.symbols_named("calls");
    assert_eq!(symbols.len(), 2);
    let mut found = Vec::new();
    for function in ["main", "other"] {
        let code = module.functions_named(function);
        let from = code[0].instances[0].instance;
        let things = module.things_named_from("calls", &[NameKind::Variable], from);
        assert_eq!(things.len(), 1);
        let id = things[0].id.unwrap();
        found.push(address_of(&module, id));
    }
    assert_ne!(found[0], found[1]);
    assert!(found.iter().all(|at| symbols.iter().any(|s| s.range.start == *at)));
}

#[test]
fn tables_of_traits() {
    let compiled = support::rust(&["-g"]);
    let module = support::load(&compiled.program());
    // All words of the data that is set up when the program is loaded.
    let sections = module.image().sections.iter().filter(|s| s.name == ".data.rel.ro");
    let words = sections.flat_map(|s| (s.range.start.0..s.range.end.0).step_by(8));
    let types = words.filter_map(|at| module.vtable_type(LinkAddress(at)));
    let names: Vec<String> = types.map(|type_| module.type_name(Some(type_))).collect();
    assert!(names.iter().any(|name| name == "variants::Shape"), "{names:?}");
    assert_eq!(module.vtable_type(LinkAddress(1)), None);
}

#[test]
fn values_of_enumerators() {
    let compiled = support::c(&["-g"]);
    let module = support::load(&compiled.program());
    for (name, value) in [("RED", 0), ("GREEN", 5), ("BLUE", 6)] {
        let things = module.things_named(name, &[NameKind::Enumerator]);
        assert_eq!(module.constant(things[0].id.unwrap()), Some(value), "{name}");
    }
    let main = module.functions_named("main");
    assert_eq!(module.constant(main[0].function.id), None);
}
