//! Layouts and names of types, against gdb.

mod support;

use std::fmt::Write as _;

use symbols::{Count, MemberPlace, Module, NameKind, TypeId, TypeKind};

const DEPTH_MAX: usize = 5;

/// Through names and qualifiers, as gdb's `strip_typedefs` and `unqualified`.
fn stripped(module: &Module, mut id: Option<TypeId>) -> Option<TypeId> {
    while let Some(known) = id {
        match module.type_(known).unwrap().kind {
            TypeKind::Typedef(of) | TypeKind::Qualified { of, .. } => id = of,
            _ => break,
        }
    }
    id
}

/// The same walk as in `types.py`.
fn walk(out: &mut String, module: &Module, path: &str, id: Option<TypeId>, depth: usize) {
    let Some(id) = stripped(module, id) else {
        writeln!(out, "{path} void").unwrap();
        return;
    };
    let type_ = module.type_(id).unwrap();
    let size = type_.size.unwrap_or(0);
    let inner = |out: &mut String, path: &str, id| {
        if depth < DEPTH_MAX {
            walk(out, module, path, id, depth + 1);
        }
    };
    let pointer = format!("{path}*");
    match type_.kind {
        TypeKind::Pointer(to) => {
            writeln!(out, "{path} pointer {size}").unwrap();
            inner(out, &pointer, to);
        }
        TypeKind::Reference { to, rvalue } => {
            let word = if rvalue { "rvalue" } else { "reference" };
            writeln!(out, "{path} {word} {size}").unwrap();
            inner(out, &pointer, to);
        }
        TypeKind::Array(array) => {
            // gdb has arrays of arrays.
            let mut path = path.to_owned();
            let mut size = size;
            let mut depth = depth;
            for dimension in &array.dimensions {
                let Count::Known(count) = dimension.count else {
                    writeln!(out, "{path} array {size} 0").unwrap();
                    continue;
                };
                if depth <= DEPTH_MAX {
                    writeln!(out, "{path} array {size} {count}").unwrap();
                }
                path.push_str("[]");
                size = size.checked_div(count).unwrap_or(0);
                depth += 1;
            }
            if depth <= DEPTH_MAX {
                walk(out, module, &path, array.element, depth);
            }
        }
        TypeKind::Composite(composite) => {
            let union = composite.kind == symbols::CompositeKind::Union;
            writeln!(out, "{path} {} {size}", if union { "union" } else { "struct" }).unwrap();
            for (number, base) in composite.bases.iter().enumerate() {
                let MemberPlace::Bytes(offset) = base.place else { continue };
                writeln!(out, "{path}:{number} @{}", offset * 8).unwrap();
                inner(out, &format!("{path}:{number}"), base.type_);
            }
            for member in &composite.members {
                let name = member.name.clone().unwrap_or_default();
                if name.starts_with("_vptr") {
                    continue;
                }
                let (at, bits) = match member.place {
                    MemberPlace::Bytes(offset) => (offset * 8, 0),
                    MemberPlace::Bits { offset, size } => (offset, size),
                    MemberPlace::Computed(_) => panic!("{path}.{name}"),
                };
                writeln!(out, "{path}.{name} @{at}:{bits}").unwrap();
                inner(out, &format!("{path}.{name}"), member.type_);
            }
        }
        TypeKind::Enumeration(enumeration) => {
            writeln!(out, "{path} enum {size}").unwrap();
            for (name, value) in &enumeration.enumerators {
                writeln!(out, "{path}.{name} ={value}").unwrap();
            }
        }
        TypeKind::Function(signature) => {
            writeln!(out, "{path} function").unwrap();
            inner(out, &format!("{path}()"), signature.result);
            for (number, parameter) in signature.parameters.iter().enumerate() {
                inner(out, &format!("{path}({number})"), *parameter);
            }
        }
        _ => writeln!(out, "{path} base {size}").unwrap(),
    }
}

fn type_named(module: &Module, name: &str) -> TypeId {
    let bare = name.trim_start_matches("struct ").trim_start_matches("enum ");
    let things = module.things_named(bare, &[NameKind::Type]);
    let found = things.iter().find(|thing| thing.full_name == bare);
    found.and_then(|thing| thing.type_id()).unwrap_or_else(|| panic!("{bare}: {things:?}"))
}

fn compare(flavour: &str, compiled: &support::Compiled, names: &[&str]) {
    let module = support::load(&compiled.program());
    std::fs::write(compiled.path().join("types.txt"), names.join("\n")).unwrap();
    let script = support::programs().parent().unwrap().join("support/types.py");
    let source = format!("source {}", script.display());
    let command = ["gdb", "-nx", "-batch", "-ex", &source, "a.out"];
    let expected = support::run(compiled.path(), &command);
    let mut found = String::new();
    for name in names {
        walk(&mut found, &module, name, Some(type_named(&module, name)), 0);
    }
    let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{flavour}");
    }
    assert_eq!(found.len(), expected.len(), "{flavour}");
    assert!(found.len() > 10 * names.len(), "{flavour}: {found:?}");
    assert_eq!(module.troubles(), [], "{flavour}");
}

#[test]
fn layouts_in_c() {
    for options in [["-gdwarf-4"], ["-gdwarf-5"]] {
        compare("C", &support::c(&options), &["struct shape", "struct point", "enum colour"]);
    }
    let names = ["struct shape"];
    compare("types apart", &support::c(&["-gdwarf-4", "-fdebug-types-section"]), &names);
    compare("types apart", &support::c(&["-gdwarf-5", "-fdebug-types-section"]), &names);
}

#[test]
fn layouts_in_cpp() {
    let names = [
        "geometry::Polygon<int, 3>",
        "geometry::Polygon<double, 4>",
        "geometry::Named",
        "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >",
        "std::vector<std::unique_ptr<geometry::Base, std::default_delete<geometry::Base> >, \
         std::allocator<std::unique_ptr<geometry::Base, std::default_delete<geometry::Base> > > >",
    ];
    for options in [
        ["-gdwarf-4", "-O0"],
        ["-gdwarf-5", "-O2"],
        ["-gdwarf-5", "-fdebug-types-section"],
        ["-gdwarf-4", "-fdebug-types-section"],
    ] {
        compare(&format!("{options:?}"), &support::cpp(&options), &names);
    }
}

/// What `whatis` says about functions and variables, without spaces.
#[test]
fn names_in_c_and_cpp() {
    let squeezed = |text: &str| -> String {
        text.replace("{...}", "{…}").chars().filter(|c| !c.is_whitespace()).collect()
    };
    let c = support::c(&["-g"]);
    let cpp = support::cpp(&["-g"]);
    let c_names = [
        ("main.c", "calls"),
        ("main.c", "matrix"),
        ("main.c", "sink"),
        ("main.c", "per_thread"),
        ("main.c", "measure"),
        ("main.c", "blend"),
        ("main.c", "variadic"),
        ("main.c", "main"),
        ("main.c", "measure_all"),
    ];
    let cpp_names = [
        ("classes.cpp", "main"),
        ("classes.cpp", "geometry::operator<"),
        ("classes.cpp", "geometry::Named::instances"),
    ];
    for (compiled, names) in [(&c, &c_names[..]), (&cpp, &cpp_names[..])] {
        let module = support::load(&compiled.program());
        let questions: Vec<String> =
            names.iter().map(|(file, name)| format!("whatis '{file}'::{name}")).collect();
        let mut command = vec!["gdb", "-nx", "-batch", "a.out"];
        for question in &questions {
            command.extend(["-ex", question]);
        }
        let text = support::run(compiled.path(), &command);
        let told: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("type = ")).collect();
        assert_eq!(told.len(), names.len(), "{text}");
        for ((_, name), told) in names.iter().zip(told) {
            let found = match module.functions_named(name).first() {
                Some(code) => {
                    let signature = module.signature(code.instances[0].instance).unwrap();
                    let mut parameters: Vec<String> =
                        signature.parameters.iter().map(|p| module.type_name(*p)).collect();
                    if signature.variadic {
                        parameters.push("...".to_owned());
                    }
                    format!("{} ({})", module.type_name(signature.result), parameters.join(", "))
                }
                None => {
                    let kinds = [NameKind::Variable];
                    let variable = module.things_named(name, &kinds)[0].id.unwrap();
                    module.type_name(module.type_of(variable))
                }
            };
            assert_eq!(squeezed(&found), squeezed(told), "{name}");
        }
    }
}

/// Variants of Rust's enums, which gdb shows in its own way.
#[test]
fn enums_in_rust() {
    for options in [["-g", "-Copt-level=0"], ["-g", "-Cdwarf-version=5"]] {
        let module = support::load(&support::rust(&options).program());
        let shape = module.type_(type_named(&module, "variants::Shape")).unwrap();
        let TypeKind::Composite(composite) = shape.kind else { panic!("{shape:?}") };
        let variants = composite.variants.unwrap();
        assert_eq!(variants.variants.len(), 3);
        let names: Vec<String> =
            variants.variants.iter().map(|v| v.members[0].name.clone().unwrap()).collect();
        assert_eq!(names, ["Empty", "Circle", "Square"]);
        // The capacity of the label tells: its values above the largest one.
        let value = |at: usize| variants.variants[at].values.first().map(|(low, _)| *low);
        let niche = 1u128 << 63;
        assert_eq!((value(0), value(1), value(2)), (Some(niche), Some(niche + 1), None));
        let selected = |d: u128| {
            variants.select(Some(d)).map(|variant| variant.members[0].name.clone().unwrap())
        };
        assert_eq!(selected(niche + 1).as_deref(), Some("Circle"));
        assert_eq!(selected(17).as_deref(), Some("Square"));
        assert_eq!(variants.discriminant.as_ref().unwrap().place, MemberPlace::Bytes(0));

        let tree = type_named(&module, "variants::Tree<u8>");
        let TypeKind::Composite(composite) = module.type_(tree).unwrap().kind else { panic!() };
        let members: Vec<(String, String)> = composite
            .members
            .iter()
            .map(|m| (m.name.clone().unwrap(), module.type_name(m.type_)))
            .collect();
        let mut members: Vec<_> = members.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        members.sort_unstable();
        assert_eq!(members[1].0, "parent");
        assert!(members[0].1.starts_with("alloc::vec::Vec<alloc::rc::Rc<variants::Tree<u8>"));
        assert!(members[1].1.starts_with("core::option::Option<alloc::boxed::Box<variants::Tree"));
        assert_eq!(members[2], ("value", "u8"));
        let plain = type_named(&module, "variants::Plain");
        let TypeKind::Enumeration(plain) = module.type_(plain).unwrap().kind else { panic!() };
        assert_eq!(plain.enumerators, [("One".to_owned(), 1), ("Seven".to_owned(), 7)]);
    }
}
