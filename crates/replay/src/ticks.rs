//! Which conditional branches the recorder's counter counted (rr-replay 2.3).
//!
//! A recording does not say it. Performance counters count all of them, and that is assumed. When
//! a task is found to have more ticks than recorded, the replay begins again under the rule of
//! software counters; if that does not come further, the first finding is reported. So a
//! recording made with performance counters pays nothing.

mod program_branches;
mod software_counter;

use std::fmt;
use std::rc::Rc;

use model::Event;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::problem::Result;
use crate::session::Session;
use software_counter::SoftwareCounter;

/// A recording does not say how its ticks were counted; the rule holds for the whole of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TickRule {
    /// Every conditional branch: performance counters.
    #[default]
    Hardware,
    /// Those that a software counter finds in the program's files when it rewrites them, and those
    /// of rr's stubs; none in generated code.
    ElfOnly,
}

impl fmt::Display for TickRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TickRule::Hardware => "hardware",
            TickRule::ElfOnly => "elf-only",
        })
    }
}

/// What is known about the rule, beside the rule in force.
#[derive(Debug)]
pub struct TickRules {
    pub rule: TickRule,
    /// The rule is known: no other is tried.
    settled: bool,
    /// Before the first event.
    start: Option<Checkpoint>,
    /// The event that the rule before this one did not replay, and how it failed.
    failed: Option<(Event, Error)>,
    counter: Rc<SoftwareCounter>,
}

impl TickRules {
    /// To find the rule out, or to keep to the one that is given.
    pub fn new(given: Option<TickRule>) -> TickRules {
        TickRules {
            rule: given.unwrap_or_default(),
            settled: given.is_some(),
            start: None,
            failed: None,
            counter: Rc::default(),
        }
    }
}

impl Session {
    /// To be called before the first event.
    pub(crate) fn begin_ticks(&mut self) -> Result<()> {
        self.set_tick_rule(self.ticks.rule);
        self.ticks.start = Some(self.make_checkpoint()?);
        Ok(())
    }

    fn set_tick_rule(&mut self, rule: TickRule) {
        self.ticks.rule = rule;
        self.machine.set_tick_filter(match rule {
            TickRule::Hardware => None,
            TickRule::ElfOnly => Some(self.ticks.counter.clone()),
        });
    }

    /// An event has been replayed: if it is where the rule before failed, this one is right.
    pub(crate) fn ticks_confirmed(&mut self, event: Event) {
        if self.ticks.failed.as_ref().is_some_and(|(failed, _)| event >= *failed) {
            tracing::info!(%event, rule = %self.ticks.rule, "how ticks were counted is found");
            self.ticks.failed = None;
            self.ticks.settled = true;
        }
    }

    /// The replay has failed in this event. Goes back to the beginning, to replay under another
    /// rule, if that could help: true. Otherwise returns the error to report.
    pub(crate) fn try_other_ticks(
        &mut self,
        event: Event,
        error: Error,
    ) -> std::result::Result<(), Error> {
        if let Some((_, first)) = self.ticks.failed.take() {
            // The rule stays the one that the report is about.
            self.ticks.rule = TickRule::Hardware;
            self.ticks.settled = true;
            return Err(with_second_try(first, event));
        }
        // A software counter counts less: what is recorded is passed, not missed.
        let passed = matches!(&error, Error::Divergence(divergence)
            if divergence.ticks.1 > divergence.ticks.0);
        if self.ticks.settled || !passed {
            return Err(error);
        }
        let Some(start) = self.ticks.start.clone() else { return Err(error) };
        let rule = TickRule::ElfOnly;
        tracing::info!(%event, %rule, "more ticks than recorded: the replay begins again");
        self.set_tick_rule(rule);
        self.ticks.failed = Some((event, error));
        self.return_to(&start).map_err(|problem| self.error_here(problem))
    }

    /// Whether a checkpoint made under `rule` is one of this replay. A replay that has not begun
    /// takes the rule over.
    pub(crate) fn accept_ticks(&mut self, rule: TickRule) -> bool {
        if rule != self.ticks.rule && !self.ticks.settled && self.moment.0 == 0 {
            self.set_tick_rule(rule);
            self.ticks.settled = true;
        }
        rule == self.ticks.rule
    }
}

/// The report of a replay that fails under both rules.
fn with_second_try(first: Error, second: Event) -> Error {
    let Error::Divergence(mut divergence) = first else { return first };
    divergence.reason += &format!(
        " (all conditional branches count as ticks; with those of program files alone, as \
         software counters do it, the replay fails in event {second})"
    );
    Error::Divergence(divergence)
}
