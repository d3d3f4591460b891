//! Which conditional branches the recorder's counter counted (rr-replay 2.3).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A recording does not say how its ticks were counted; the rule is adopted for the whole of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TickRule {
    /// Every conditional branch: performance counters.
    #[default]
    Hardware,
    /// None in generated code (executable memory that is neither a private file mapping nor one
    /// of rr's stubs): software counters that rewrite program files.
    ElfOnly,
}

impl TickRule {
    /// The recorder's count of a task that has retired `all` conditional branches, `generated`
    /// of them in generated code.
    pub fn count(self, all: u64, generated: u64) -> u64 {
        match self {
            TickRule::Hardware => all,
            TickRule::ElfOnly => all - generated,
        }
    }

    /// The rule under which a task at a frame has the frame's ticks; `None`: no rule fits.
    /// `generated` is `None` when such branches were not counted apart: then there is no choice.
    pub fn adopt(self, recorded: u64, all: u64, generated: Option<u64>) -> Option<TickRule> {
        let candidates = [self, TickRule::Hardware, TickRule::ElfOnly];
        candidates.into_iter().find(|rule| match generated {
            Some(generated) => rule.count(all, generated) == recorded,
            None => *rule == TickRule::Hardware && all == recorded,
        })
    }
}

impl fmt::Display for TickRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TickRule::Hardware => "hardware",
            TickRule::ElfOnly => "elf-only",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_fits_is_adopted() {
        assert_eq!(TickRule::Hardware.adopt(10, 10, None), Some(TickRule::Hardware));
        assert_eq!(TickRule::Hardware.adopt(7, 10, None), None);
        assert_eq!(TickRule::Hardware.adopt(7, 10, Some(3)), Some(TickRule::ElfOnly));
        assert_eq!(TickRule::Hardware.adopt(8, 10, Some(3)), None);
    }
}
