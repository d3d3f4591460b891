//! Rules about one Rust file: its opening, its length, the length of its functions.
//!
//! Functions are found by indentation, which `cargo fmt --check` makes reliable.

use super::{Finding, advice, error};

const LINES_ADVISED: usize = 600;
const LINES_MAX: usize = 1000;
const FUNCTION_LINES_ADVISED: usize = 70;
const FUNCTION_LINES_MAX: usize = 120;

pub fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(error(file, "does not open with `//!`, which says what it is for"));
    }
    let ignored = concat!("#[ign", "ore");
    for (number, _) in (1..).zip(text.lines()).filter(|(_, line)| line.contains(ignored)) {
        let what = "an ignored test: assert today's wrong answer and say why";
        findings.push(error(format!("{file}:{number}"), what));
    }
    if is_test(file) {
        return findings;
    }
    let lines = text.lines().count();
    let length = format!("{lines} lines, {LINES_ADVISED} are advised and {LINES_MAX} allowed");
    if lines > LINES_MAX {
        findings.push(error(file, length));
    } else if lines > LINES_ADVISED {
        findings.push(advice(file, length));
    }
    for function in functions(text) {
        if function.lines <= FUNCTION_LINES_ADVISED {
            continue;
        }
        let place = format!("{file}:{}", function.first_line);
        let what = format!(
            "`{}` has {} lines, {FUNCTION_LINES_ADVISED} are advised and {FUNCTION_LINES_MAX} \
             allowed",
            function.name, function.lines
        );
        if function.lines > FUNCTION_LINES_MAX {
            findings.push(error(place, what));
        } else {
            findings.push(advice(place, what));
        }
    }
    findings
}

/// Tests are exempt from lengths.
fn is_test(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    let directories = &parts[..parts.len().saturating_sub(1)];
    let name = parts.last().copied().unwrap_or_default();
    name == "tests.rs" || directories.iter().any(|part| ["tests", "benches"].contains(part))
}

#[derive(Debug, PartialEq, Eq)]
struct Function<'a> {
    name: &'a str,
    first_line: usize,
    lines: usize,
}

/// The functions of a formatted file up to its test module, with their signature and body.
fn functions(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().position(|line| *line == "mod tests {").unwrap_or(lines.len());
    let mut functions = Vec::new();
    for (index, line) in lines[..end].iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let last = lines[index..].iter().position(|line| {
            let Some(rest) = line.strip_prefix(indent) else { return false };
            rest == "}" || (!rest.starts_with(' ') && rest.ends_with([';', '}']))
        });
        if let Some(last) = last {
            functions.push(Function { name, first_line: index + 1, lines: last + 1 });
        }
    }
    functions
}

/// The name behind `fn`, if the line begins a function.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split(' ');
    loop {
        let word = words.next()?;
        let qualifier = word.starts_with("pub") || word.starts_with('"');
        if word == "fn" {
            let rest = words.next()?;
            return rest.split(['(', '<']).next();
        }
        if !qualifier && !["const", "unsafe", "async", "extern", "crate)", "super)"].contains(&word)
        {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<(&str, usize, usize)> {
        functions(text).iter().map(|f| (f.name, f.first_line, f.lines)).collect()
    }

    #[test]
    fn finds_functions() {
        let text = "//! x\nfn a() {\n    b\n}\n\nimpl A {\n    pub(in crate::x) unsafe fn b<T>(\n        \
                    c: T,\n    ) -> T {\n        if c {\n        }\n    }\n    fn d(&self);\n}\n\
                    pub const fn e() -> u8 { 1 }\nlet fn_f = 1;\n";
        assert_eq!(listed(text), [("a", 2, 3), ("d", 13, 1), ("e", 15, 1)]);
        let text = text.replace("in crate::x", "crate");
        assert_eq!(listed(&text)[1], ("b", 7, 6));
    }

    #[test]
    fn judges_lengths() {
        let check = |lines: usize| {
            let text = format!("//! x\nfn a() {{\n{}}}\n", "    x;\n".repeat(lines - 2));
            check("src/a.rs", &text).len()
        };
        assert_eq!(check(FUNCTION_LINES_ADVISED), 0);
        assert_eq!(check(FUNCTION_LINES_ADVISED + 1), 1);
        assert_eq!(check(LINES_MAX + 1), 2);
    }

    #[test]
    fn wants_an_opening() {
        assert_eq!(check("src/a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(check("src/tests.rs", "//! x\n").len(), 0);
    }
}
