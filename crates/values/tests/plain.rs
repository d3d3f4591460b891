//! C: variables and expressions against gdb.

mod support;

use support::compare::{Tally, compare, compare_variables};
use support::{Setup, Stop, stops};
use values::{Options, ValueKind};

/// What gdb understands as well.
const EXPRESSIONS: &[&str] = &[
    "1 + 2 * 3 - 4 / 3 % 2",
    "-7 / 2",
    "-7 % 3",
    "-1 > 1u",
    "-1 < 1",
    "1 << 31u",
    "0xffffffff",
    "2147483647 + 1LL",
    "(unsigned char)300",
    "(signed char)200",
    "(short)70000 + 1",
    "(int)3.99 + (int)-3.99",
    "1.5 * 2 == 3",
    "7 & 3 | 8 ^ 1",
    "~5 & 0xff",
    "!5 || 3 && 0",
    "'a' + 1",
    "sizeof(int) * sizeof(long)",
    "sizeof(struct note)",
    "sizeof (note_t *)",
    "calls",
    "matrix[1][2]",
    "*matrix[1]",
    "*(*(matrix + 1) + 1)",
    "&matrix[1][2] - &matrix[0][0]",
    "names[1]",
    "per_thread",
    "(long)&matrix == (long)matrix",
    "(int)BLUE",
    "RED == 0",
    "$rsp",
    "$eax",
    "(char)$al",
    "twice == &twice",
    "*&calls + 1",
    "calls > 40 ? 10 : 20",
    "(struct note *)0 == 0",
    "1.0f / 3",
    "10 / 4.0",
    "5 > 3 == 1",
    "010 + 0b11",
    "1e3",
];

const IN_MAIN: &[&str] = &[
    "notes[0].balance",
    "notes[0].next->next->serial",
    "notes[0].colour == GREEN",
    "notes[1].colour",
    "notes[0].point.inner_y + notes[0].area",
    "notes[0].low + notes[0].delta",
    "&notes[1] - &notes[0]",
    "&notes[1] == notes[0].next",
    "*inside@2",
    "inside[-1]",
    "*(note_t *)anything",
    "((note_t *)anything)->text",
    "table[0] == twice",
    "tiny * byte",
    "small + usmall",
    "large + 1",
    "large > -1",
    "huge + 1",
    "longer / 3",
    "single + number",
    "letter == 'x'",
    "text[1]",
    "*text",
    "access & EXECUTE",
    "x + y",
    "matrix",
    "argv[0]",
    "yes",
    "!yes",
    "-single",
    "large - 4000000001",
    "(int)large",
    "(unsigned char)tiny >> 1",
    "tiny >> 1",
];

fn main_stop(options: &[&str]) -> Vec<Stop> {
    let expressions = [EXPRESSIONS, IN_MAIN].concat();
    let compiler = [&["gcc", "-g"], options].concat();
    let setup = Setup {
        compiler: &compiler,
        source: "plain.c",
        expressions: &expressions,
        variables: true,
        first: 0,
    };
    stops(&setup)
}

fn check_expressions(stop: &Stop, what: &str, tally: &mut Tally) {
    for (expression, told) in &stop.expressions {
        let ours = stop.show(expression, &Options::default());
        match (ours, told["kind"].as_str().unwrap()) {
            (Ok(value), kind) if kind != "error" => {
                compare(stop, &format!("{what} {expression}"), &value, told, tally);
            }
            (Ok(value), _) => panic!("{what} {expression}: {value:?}, gdb: {told}"),
            (Err(_), "error") => {}
            (Err(error), _) => panic!("{what} {expression}: {error}, gdb: {told}"),
        }
    }
}

#[test]
fn unoptimised() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let mut tally = Tally::default();
        let stops = main_stop(&["-O0", version]);
        for (number, stop) in stops.iter().enumerate() {
            compare_variables(stop, &format!("{version} stop {number}"), &mut tally);
        }
        check_expressions(&stops[1], version, &mut tally);
        assert!(tally.leaves > 150 && tally.containers > 15, "{tally:?}");
    }
}

#[test]
fn optimised() {
    let mut tally = Tally::default();
    for (number, stop) in main_stop(&["-O2", "-gdwarf-5"]).iter().enumerate() {
        compare_variables(stop, &format!("stop {number}"), &mut tally);
    }
    assert!(tally.leaves > 20, "{tally:?}");
}

/// What has no counterpart in gdb, or is shown otherwise.
#[test]
fn texts() {
    let stops = main_stop(&["-O0"]);
    let inner = &stops[0];
    for (expression, text) in [
        ("e->balance", "787"),
        ("e.balance", "787"),
        ("ballance", "error: column 1: no `ballance` in set_note. Near: e->balance"),
        ("e->ballance + 1", "error: column 1: no `ballance` in note_t. Near: e->balance"),
        ("row", "{0, 5, 10}"),
        ("row[2]", "10"),
        ("sizeof row", "12"),
        ("secret", "0x1"),
        ("*secret", "<incomplete type>"),
        ("twice", "0x555555555149 <twice>"),
        ("e->text == \"rent\"", "1"),
        ("e->text == \"ren\"", "0"),
        ("e->text < \"rest\"", "1"),
        ("names[0] == \"one\"", "1"),
        ("e->next == NULL", "0"),
    ] {
        let found = inner.text(expression);
        // Where the function is depends on the compiler.
        let found = match found.split_once(" <twice>") {
            Some(_) => "0x555555555149 <twice>".to_owned(),
            None => found,
        };
        assert_eq!(found, text, "{expression}");
    }
    let stop = &stops[1];
    for (expression, text) in [
        ("wide == -wide", "0"),
        ("wide + 1", "-1267650600228229401496703205375"),
        ("uwide / 2 > uwide", "0"),
        ("/x notes[0].wide", "0xabcde"),
        ("notes[0].wide, t", "0b10101011110011011110"),
        ("letter, d", "120"),
        ("letter, x", "0x78"),
        ("access | 8", "13"),
        ("(enum flags)13", "READ | EXECUTE | 0x8"),
        ("(enum flags)2", "WRITE"),
        ("complex_number", "1.5 + 2.5i"),
        ("vector", "{1.0, 2.0, 3.0, 4.0}"),
        ("wide_text", "\"wide\""),
        ("full", "\"abcd\""),
        ("text == \"hello \\\"you\\\"\\n\"", "1"),
        ("@&matrix:8", "{0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00}"),
        ("x~1", "error: column 1: no `x~1` in main"),
        ("notes#1.2", "0"),
        ("notes[0]#3.0", "0"),
        ("notes#9", "error: column 1: there is no part 9"),
        ("matrix[1][0..2]", "{4, 5}"),
        (
            "twice(3)",
            "error: column 1: calling `twice` is not possible: the recorded program cannot be changed",
        ),
        (
            "x = 4",
            "error: column 3: assigning with `=` is not possible: the recorded program cannot be changed",
        ),
        (
            "x++",
            "error: column 2: assigning with `++` is not possible: the recorded program cannot be changed",
        ),
        ("1 +", "error: column 4: a value is missing at the end"),
        ("1 << 33", "error: column 1: a shift by 33 of a number of 32 bits"),
        ("1 / 0", "error: column 1: division by zero"),
        ("notes + 1.5", "error: column 1: `+` cannot be done with a pointer"),
        ("notes[0] == 1", "error: column 1: `notes[0]` is of type note_t, no number"),
        ("(struct nothing *)x", "error: column 9: no `nothing` in the types of the program"),
        ("*nothing", "<unreadable at 0x0>"),
        ("$xmm99", "error: column 1: no `$xmm99` in registers and given values. Near: $xmm9"),
    ] {
        let found = stop.text(expression);
        let found = found.rsplit_once(" \"wide\"").map_or(found.clone(), |_| "\"wide\"".to_owned());
        assert_eq!(found, text, "{expression}");
    }
}

/// Thread-local variables are found through glibc's table where the target does not know better.
#[test]
fn thread_locals() {
    let mut stop = main_stop(&["-O0"]).remove(1);
    let expected = stop.text("per_thread");
    assert_eq!(expected, "43");
    let address = stop.text("&per_thread");
    stop.thread_block = None;
    assert_eq!((stop.text("per_thread"), stop.text("&per_thread")), (expected, address));
}

/// Children are found again by their expressions, in parts of any size.
#[test]
fn unfolding() {
    let stops = main_stop(&["-O0"]);
    let options = Options { depth: 1, first_child: 2, children_max: 3, ..Options::default() };
    let value = stops[0].show("e", &options).unwrap();
    let names: Vec<&str> = value.unfolded.iter().map(|v| v.expression.as_str()).collect();
    assert_eq!(names, ["e->balance", "e->next", "e->colour"]);
    assert_eq!(value.kind, ValueKind::Pointer);
    for child in &value.unfolded {
        let again = stops[0].show(&child.expression, &Options::default()).unwrap();
        assert_eq!((&again.text, &again.lives), (&child.text, &child.lives));
    }
    // A cycle goes on as long as one wants.
    let options = Options { depth: 6, children_max: 4, ..Options::default() };
    let mut value = stops[0].show("e", &options).unwrap();
    for _ in 0..5 {
        value = value.unfolded.into_iter().find(|v| v.name == "next").unwrap();
    }
    assert_eq!(value.expression, "e->next->next->next->next->next");
    assert_eq!(value.unfolded.len(), 4);
}
