//! Types of the C++ and Rust standard libraries, classes, enums: C++ against gdb and its printers.

mod support;

use support::compare::{Tally, compare_variables};
use support::{Setup, Stop, stops};
use values::{Children, Options, ValueKind};

fn cpp(options: &[&str], variables: bool) -> Vec<Stop> {
    let compiler = [&["g++", "-g", "-std=c++20"], options].concat();
    let source = "library.cpp";
    stops(&Setup { compiler: &compiler, source, expressions: &[], variables, first: 0 })
}

fn rust(options: &[&str]) -> Stop {
    let compiler = [&["rustc", "-g", "--edition", "2021"], options].concat();
    let source = "library.rs";
    let expressions = &[];
    let setup = Setup { compiler: &compiler, source, expressions, variables: false, first: 0 };
    stops(&setup).remove(0)
}

#[test]
fn cpp_like_gdb() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let mut tally = Tally::default();
        for (number, stop) in cpp(&["-O0", version], true).iter().enumerate() {
            compare_variables(stop, &format!("{version} stop {number}"), &mut tally);
        }
        assert!(tally.leaves > 220 && tally.containers > 60, "{tally:?}");
    }
}

#[test]
fn optimised_cpp_like_gdb() {
    for level in ["-Og"] {
        let compiler = ["g++", "-g", "-std=c++20", level];
        let source = "library.cpp";
        let setup =
            Setup { compiler: &compiler, source, expressions: &[], variables: true, first: 1 };
        let mut tally = Tally::default();
        for stop in &stops(&setup) {
            compare_variables(stop, level, &mut tally);
        }
        assert!(tally.leaves > 100 && tally.containers > 30, "{level} {tally:?}");
    }
}

fn check(stop: &Stop, expected: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (expression, text) in expected {
        let found = stop.text(expression);
        // Addresses differ from run to run.
        let mut shown = String::new();
        let mut rest = found.as_str();
        while let Some((before, behind)) = rest.split_once("0x") {
            let digits = behind.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(behind.len());
            shown.push_str(before);
            shown.push_str(if digits > 6 { "AT" } else { "0x" });
            rest = if digits > 6 { &behind[digits..] } else { behind };
        }
        shown.push_str(rest);
        if shown != *text {
            wrong.push(format!("{expression}\n  {shown}\n  expected {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cpp_texts() {
    let stops = cpp(&["-O0"], false);
    check(
        &stops[1],
        &[
            // In a method.
            ("id", "1"),
            ("sides[1]", "2"),
            ("this->sides", "{1, 2, 3}"),
            ("style == Style::Dashed", "true"),
            ("style == Dashed", "true"),
            ("style", "Style::Dashed"),
            ("limit", "12"),
            ("geometry::limit + 1", "13"),
            ("instances", "3"),
            ("Named::instances", "3"),
            ("geometry::Named::instances", "3"),
            ("name", "\"polygon\""),
            ("sdes", "error: column 1: no `sdes` in area. Near: sides"),
            (
                "*this",
                "{Base = {id = 1}, Named = {name = \"polygon\"}, sides = {1, 2, 3}, style = Style::Dashed}",
            ),
        ],
    );
    check(
        &stops[0],
        &[
            ("numbers", "(5) {1, 2, 3, 4, 5}"),
            ("numbers[3] == 4 && words[1] == \"two\"", "true"),
            ("numbers.size()", "5"),
            ("numbers[1..3]", "{2, 3}"),
            ("numbers[9]", "error: column 9: no element 9: it has 5 elements"),
            ("small == \"short\"", "true"),
            ("small == view", "true"),
            ("small < large", "true"),
            ("small[0]", "115 's'"),
            ("counts[\"b\"]", "2"),
            (
                "counts[\"z\"]",
                "error: column 1: std::map<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >, int, std::less<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> > >, std::allocator<std::pair<const std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >, int> > > has no key \"z\"",
            ),
            ("lists[2]", "(2) {2, 2}"),
            ("lists[2][0] + 1", "3"),
            ("hashed[\"pi\"] > 3", "true"),
            ("*unique + 1", "6"),
            ("*shared == \"shared\"", "true"),
            ("*something", "42"),
            ("triple", "{1, \"two\", 3.5}"),
            ("triple#1", "\"two\""),
            ("pair.second", "\"second\""),
            ("choice", "\"chosen\""),
            ("nothing", "nullopt"),
            ("nested[1][1]", "3"),
            ("both_ends[0]", "-149"),
            ("both_ends[449]", "299"),
            ("wide", "\"wïde\""),
            ("atomic + 1", "18"),
            ("flag", "true"),
            ("truth ? 3 : 4", "3"),
            (
                "base",
                "AT → {Base = {id = 1}, Named = {name = \"polygon\"}, sides = {2.5, 3.5, 4.5, 5.5}, style = Style::Dashed}",
            ),
            ("base->sides[3]", "5.5"),
            ("shape->sides[0]", "1"),
            ("shape->id", "1"),
            ("static_cast<geometry::Polygon<double, 4>*>(base)->sides[1]", "3.5"),
            ("((Polygon<double, 4>*)base)->sides[2]", "4.5"),
            ("dynamic_cast<geometry::Named*>(base) == named", "true"),
            ("dynamic_cast<Left*>(right) == (Left*)&two", "true"),
            ("(Right*)&two == right", "true"),
            ("(Both*)right == &two", "true"),
            ("dynamic_cast<Both*>(base)", "0x0"),
            ("polygon.Base::id", "1"),
            ("hidden->d", "55"),
            (
                "node",
                "{value = 1, next = 0x0, member = &geometry::Node::value, function = virtual function 2}",
            ),
            ("other.next->value", "1"),
            ("*iterator", "3"),
            ("lambda.__captured", "99"),
            ("captured as long", "99"),
            ("(Polygon<double, 4>::Style)7", "Style::Dashed"),
            ("sizeof(Polygon<double, 4>) == sizeof polygon", "true"),
            (
                "numbers, r",
                "{_Vector_base = {_M_impl = {allocator = {…}, _Vector_impl_data = {…}}}}",
            ),
            ("&polygon.id == &base->id", "true"),
        ],
    );
    let value = stops[0].show("base", &Options { depth: 1, ..Options::default() }).unwrap();
    assert_eq!(value.actual_type.as_deref(), Some("geometry::Polygon<double, 4>"));
    let value = stops[0].show("forward", &Options { depth: 1, ..Options::default() }).unwrap();
    assert_eq!((value.children, value.unfolded.len()), (Children::Unknown, 3));
    let options = Options { depth: 1, first_child: 998, ..Options::default() };
    let value = stops[0].show("many", &options).unwrap();
    let texts: Vec<_> = value.unfolded.iter().map(|v| (&*v.name, &*v.text)).collect();
    assert_eq!(texts, [("[998]", "996004"), ("[999]", "998001")]);
    let value = stops[0].show("counts", &options).unwrap();
    assert_eq!((value.kind, value.children), (ValueKind::Map, Children::Count(3)));
}

#[test]
fn rust_texts() {
    let stop = rust(&["-Copt-level=0"]);
    check(
        &stop,
        &[
            ("number", "5"),
            ("byte", "200"),
            ("wide", "-1267650600228229401496703205376"),
            ("letter", "'é'"),
            ("letter == 'é'", "true"),
            ("truth && number > 4", "true"),
            ("float == 0.1", "true"),
            ("unit", "()"),
            ("tuple", "(1, 'x', -4, true)"),
            ("tuple.2 - 1", "-5"),
            ("array", "[1, 2, 3]"),
            ("grid[1][0]", "3"),
            ("slice", "(2) [2, 3]"),
            ("slice[1]", "3"),
            ("slice.len()", "2"),
            ("text", "\"slice of text\""),
            ("text == \"slice of text\"", "true"),
            ("string == \"owned\"", "true"),
            ("string.len() == 5", "true"),
            ("empty_string", "\"\""),
            ("boxed_text", "\"boxed\""),
            ("vector", "(3) [10, 20, 30]"),
            ("vector[1] + 1", "21"),
            ("words[0] == \"a\"", "true"),
            ("nested", "(2) [(1) [1], (2) [2, 3]]"),
            ("units", "(2) [(), ()]"),
            ("deque", "(3) [3, 4, 5]"),
            ("deque[2]", "5"),
            ("map", "(1) {\"key\": 7}"),
            ("map[\"key\"]", "7"),
            ("big_map[50]", "100"),
            ("set", "(1) [4]"),
            ("tree[39]", "\"v39\""),
            ("tree[17]", "\"v17\""),
            ("tree_set", "(3) ['a', 'b', 'c']"),
            ("empty_tree", "(0)"),
            ("some", "Some(3)"),
            ("some == Some", "true"),
            ("none == None", "true"),
            ("none", "None"),
            ("niche", "Some(AT → 2)"),
            ("niche_none", "None"),
            ("fine", "Ok(9)"),
            ("failed", "Err(\"bad\")"),
            ("failed.0 == \"bad\"", "true"),
            ("shapes", "(3) [Empty, Circle(1.5), Square {side: 3, label: \"three\"}]"),
            ("shapes[2].side", "3"),
            ("shapes[1] == Shape::Circle", "true"),
            ("shapes[1] == Shape::Empty", "false"),
            ("plain", "Plain::Seven"),
            ("plain == Plain::Seven", "true"),
            ("point", "Point {x: 1, y: -2}"),
            ("point_ref.y", "-2"),
            ("(*point_ref).x", "1"),
            ("&point as usize == point_ref as usize", "true"),
            ("unit_struct", "Unit"),
            ("wrapper", "Wrapper(77)"),
            ("wrapper.0 as u8", "77"),
            ("either.bytes", "[4, 3, 2, 1]"),
            ("boxed.x", "3"),
            ("*boxed", "Point {x: 3, y: 4}"),
            ("boxed_slice", "(2) [1, 2]"),
            ("counted.x + 1", "6"),
            ("weak", "Point {x: 5, y: 6}"),
            ("dangling", "(nothing)"),
            ("counted_text", "\"counted\""),
            ("shared", "(2) [1, 2]"),
            ("cell + 1", "9"),
            ("refcell", "\"inside\""),
            ("atomic", "12"),
            ("nonzero", "6"),
            ("dynamic", "AT → Circle(2.0)"),
            ("dynamic_ref.side", "3"),
            ("path", "\"/a/b\""),
            ("path_ref", "\"/a/b\""),
            ("duration", "1 s + 500000000 ns"),
            ("shadow", "11"),
            ("shadow~1", "1"),
            ("byte as i8", "-56"),
            ("byte + 100", "44"),
            ("byte == 456", "false"),
            ("!byte", "55"),
            ("number & 4 == 4", "true"),
            ("GREETING", "\"hello\""),
            ("library::GREETING == \"hello\"", "true"),
            ("Plain::One as u8", "1"),
            ("vectr", "error: column 1: no `vectr` in main. Near: vector"),
            ("point.z", "error: column 1: no `z` in library::Point. Near: point.x, point.y"),
        ],
    );
}

/// Optimised programs lack much; what is there is right, and nothing is made up.
#[test]
fn optimised_rust() {
    let stop = rust(&["-Copt-level=2"]);
    let mut known = 0;
    for local in stop.values.variables(&stop, &Options::default()).unwrap() {
        let (name, text) = (local.variable.name.as_str(), local.value.text.as_str());
        let expected = match name {
            "vector" => "(3) [10, 20, 30]",
            "string" => "\"owned\"",
            "tree_set" => "(3) ['a', 'b', 'c']",
            "nested" => "(2) [(1) [1], (2) [2, 3]]",
            "map" => "(1) {\"key\": 7}",
            _ => continue,
        };
        if text.contains("<optimised out>") {
            continue;
        }
        assert_eq!(text, expected, "{name}");
        known += 1;
    }
    assert!(known > 1, "{known}");
}
