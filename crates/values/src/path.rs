//! Expressions that lead to a part of a value again.

use crate::view::Step;

/// The expression of a part of what an expression gives.
pub(crate) fn part(of: &str, step: &Step, behind_pointer: bool, rust: bool) -> String {
    match step {
        Step::Member(name) => {
            let is_number = name.starts_with(|c: char| c.is_ascii_digit());
            // `x#1.0` is the part 0 of the part 1.
            let of = if is_number && ends_in_number(of) { format!("({of})") } else { base(of) };
            let arrow = if behind_pointer && !rust { "->" } else { "." };
            format!("{of}{arrow}{name}")
        }
        Step::Index(index) if behind_pointer => format!("(*{})[{index}]", base(of)),
        Step::Index(index) => format!("{}[{index}]", base(of)),
        Step::Star => format!("*{}", prefixed(of)),
        Step::Number(number) if ends_in_number(of) => format!("{of}.{number}"),
        Step::Number(number) => format!("{}#{number}", base(of)),
    }
}

/// In brackets, unless something can be put behind it.
fn base(of: &str) -> String {
    let mut depth = 0u32;
    let mut simple = true;
    let mut chars = of.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            '-' if depth == 0 && chars.peek() == Some(&'>') => {
                chars.next();
            }
            c if depth == 0 => simple &= c.is_alphanumeric() || "_$.:#".contains(c),
            _ => {}
        }
    }
    // `(a)[1]` and `f.x` are; `(int)x` is not.
    let cast = of.starts_with('(') && !closes_behind(of);
    if simple && !cast { of.to_owned() } else { format!("({of})") }
}

/// Whether what follows the first bracket's end is something that is put behind.
fn closes_behind(of: &str) -> bool {
    let mut depth = 0u32;
    for (at, c) in of.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let rest = &of[at + 1..];
                    return rest.is_empty() || rest.starts_with(['.', '[', '-', '#']);
                }
            }
            _ => {}
        }
    }
    false
}

fn prefixed(of: &str) -> String {
    let simple = base(of);
    // `**p` needs no brackets.
    if of.starts_with('*') && simple.starts_with('(') { of.to_owned() } else { simple }
}

fn ends_in_number(of: &str) -> bool {
    let digits = of.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    digits.ends_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_expressions() {
        let member = Step::Member("x".to_owned());
        assert_eq!(part("e", &member, true, false), "e->x");
        assert_eq!(part("e", &member, true, true), "e.x");
        assert_eq!(part("*e", &member, false, false), "(*e).x");
        assert_eq!(part("(int)e", &member, false, false), "((int)e).x");
        assert_eq!(part("(*e)[1]", &member, false, false), "(*e)[1].x");
        assert_eq!(part("a->b[i + 1]", &Step::Index(3), false, false), "a->b[i + 1][3]");
        assert_eq!(part("a + b", &Step::Number(3), false, false), "(a + b)#3");
        assert_eq!(part("a#3", &Step::Number(4), false, false), "a#3.4");
        assert_eq!(part("a#3", &Step::Member("0".to_owned()), false, true), "(a#3).0");
        assert_eq!(part("*p", &Step::Star, false, false), "**p");
        assert_eq!(part("a.b", &Step::Star, false, false), "*a.b");
        assert_eq!(part("i~1", &member, false, false), "(i~1).x");
    }
}
