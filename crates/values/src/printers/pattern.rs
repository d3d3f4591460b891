//! Patterns of type names.

/// Whether a name fits a pattern, in which `*` stands for anything.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + str::len(part)..],
                None => return false,
            }
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars() {
        assert!(fits("a", "a"));
        assert!(!fits("a", "ab"));
        assert!(fits("std::vector<*>", "std::vector<int,std::allocator<int>>"));
        assert!(!fits("std::vector<*>", "std::vector<int>::iterator"));
        assert!(fits("&[*]", "&[u8]"));
        assert!(fits("*::Cell<*>", "core::cell::Cell<u8>"));
        assert!(fits("a*b*c", "a1b2b3c"));
        assert!(!fits("a*b*c", "acb"));
        assert!(!fits("ab*ba", "aba"));
        assert!(fits("*", ""));
    }
}
