//! Places at which a replay can be cut, named so that every replay arrives at the same one.

use std::fmt;
use std::str::FromStr;

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use model::{Event, Moment, Tid, gpr};

use crate::Error;
use crate::problem::Result;
use crate::session::{EventReport, Progress, Session};
use crate::source::Current;

/// A place in a replay: the state there depends on nothing else, above all not on where the
/// replay was begun or stopped before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// Behind an event.
    Event(Event),
    /// In front of an instruction, and so many iterations into it if it is a `rep` string: all
    /// events that come before are over, and the one during which it is executed has begun.
    Instruction { moment: Moment, iterations: u64 },
    /// Behind everything.
    End,
}

impl fmt::Display for Border {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Border::Event(event) => write!(f, "event {event}"),
            Border::Instruction { moment, iterations: 0 } => write!(f, "moment {moment}"),
            Border::Instruction { moment, iterations } => write!(f, "moment {moment}+{iterations}"),
            Border::End => write!(f, "end"),
        }
    }
}

impl FromStr for Border {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Border, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?}: no number"));
        match text.split_once(' ') {
            None if text == "end" => Ok(Border::End),
            Some(("event", event)) => Ok(Border::Event(Event(number(event)?))),
            Some(("moment", place)) => {
                let (moment, iterations) = place.split_once('+').unwrap_or((place, "0"));
                let (moment, iterations) = (Moment(number(moment)?), number(iterations)?);
                Ok(Border::Instruction { moment, iterations })
            }
            _ => Err(format!("{text:?} is neither `event N`, `moment N`, `moment N+N` nor `end`")),
        }
    }
}

/// What a replay on its way to a border has come past.
#[derive(Debug)]
pub enum Passed<'a> {
    /// Once for every event, also if the replay begins again under another tick rule.
    Event(&'a EventReport),
    /// No more than `STRIDE` instructions after the last such message.
    Moment(Moment),
}

/// Instructions that are executed without a sign of life: some hundredths of a second.
const STRIDE: u64 = 1 << 24;

impl Session {
    /// Goes on to a place that lies ahead, and calls `seen` for every event on the way, once if
    /// the replay begins again under another tick rule. False if
    /// there is no such place: the recording ends before, or what is at the moment is no `rep`
    /// string with more iterations.
    pub fn go_on_to(
        &mut self,
        border: Border,
        mut seen: impl FnMut(&EventReport),
    ) -> std::result::Result<bool, Error> {
        self.go_on_watched(border, |passed| {
            if let Passed::Event(report) = passed {
                seen(report);
            }
        })
    }

    /// As [`Session::go_on_to`], and says where it is also in the middle of long runs without any
    /// event.
    pub fn go_on_watched(
        &mut self,
        border: Border,
        mut passed: impl FnMut(Passed<'_>),
    ) -> std::result::Result<bool, Error> {
        let mut last = self.last_event();
        loop {
            if let Border::Event(event) = border
                && self.last_event() >= event
            {
                return Ok(self.last_event() == event && !self.is_in_event());
            }
            let before = self.moment();
            let stride = before + STRIDE;
            let until = match border {
                Border::Instruction { moment, .. } => moment.min(stride),
                Border::Event(_) | Border::End => stride,
            };
            match self.advance(Some(until))? {
                Progress::Event(report) if report.event > last => {
                    last = report.event;
                    passed(Passed::Event(&report));
                }
                Progress::Event(_) | Progress::Restarted | Progress::Stop(_) => {}
                Progress::Moment => match border {
                    Border::Instruction { moment, iterations } if moment == until => {
                        // There may be events that need no instruction.
                        if before < moment {
                            continue;
                        }
                        let there = before == moment
                            && (iterations == 0 || self.iterate(iterations)? == iterations);
                        return Ok(there);
                    }
                    _ => passed(Passed::Moment(self.moment())),
                },
                Progress::End => return Ok(border == Border::End),
            }
        }
    }

    /// Whether an event has begun and is not over.
    pub fn is_in_event(&self) -> bool {
        self.current.is_some()
    }

    /// How often the `rep` string that comes next is going to be repeated, if it is one that only
    /// its counter ends, and a task is about to execute it.
    pub fn iterations_ahead(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        self.repetitions(current.frame.tid).ok().flatten()
    }

    /// Executes up to so many iterations of the `rep` string that comes next, but never the last
    /// one; returns how many.
    pub fn iterate(&mut self, iterations: u64) -> std::result::Result<u64, Error> {
        let Some(current) = self.current.take() else { return Ok(0) };
        let done = self.iterate_within(&current, iterations);
        self.current = Some(current);
        done.map_err(|problem| self.error_here(problem))
    }

    fn iterate_within(&mut self, current: &Current, iterations: u64) -> Result<u64> {
        let tid = current.frame.tid;
        let Some(goal) = self.goal(current)? else { return Ok(0) };
        let mut done = 0;
        while done < iterations && self.repetitions(tid)?.is_some_and(|left| left > 1) {
            if self.has_arrived(tid, &goal)? {
                break;
            }
            self.activate_thread_locals(tid)?;
            let before = self.task(tid)?.cpu.general[gpr::RCX];
            self.step(tid, Some(1))?;
            // Otherwise it faults, which is for whoever runs it.
            if self.task(tid)?.cpu.general[gpr::RCX] == before {
                break;
            }
            done += 1;
        }
        Ok(done)
    }

    /// What `rcx` says, if the next instruction is `rep movs`, `rep stos` or `rep lods`.
    fn repetitions(&self, tid: Tid) -> Result<Option<u64>> {
        use Mnemonic as M;
        let task = self.task(tid)?;
        let space = &self.space_of(tid)?.space;
        let mut bytes = [0; 15];
        let mut length = bytes.len();
        // The instruction may be the last one that is mapped.
        while length > 0 && space.read(task.cpu.rip, &mut bytes[..length]).is_err() {
            length -= 1;
        }
        let rip = task.cpu.rip.0;
        let decoded = Decoder::with_ip(64, &bytes[..length], rip, DecoderOptions::NONE).decode();
        let counted = matches!(
            decoded.mnemonic(),
            M::Movsb
                | M::Movsw
                | M::Movsd
                | M::Movsq
                | M::Stosb
                | M::Stosw
                | M::Stosd
                | M::Stosq
                | M::Lodsb
                | M::Lodsw
                | M::Lodsd
                | M::Lodsq
        );
        let repeated = decoded.has_rep_prefix() || decoded.has_repne_prefix();
        // An address size of 32 bits counts in ecx: seldom, and left alone.
        let wide = !bytes[..decoded.len().min(length)].contains(&0x67);
        let applies = decoded.is_string_instruction() && counted && repeated && wide;
        Ok(applies.then(|| task.cpu.general[gpr::RCX]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_read_as_they_are_written() {
        let at = |moment, iterations| Border::Instruction { moment: Moment(moment), iterations };
        for border in [Border::Event(Event(7)), at(12, 0), at(12, 3), Border::End] {
            assert_eq!(border.to_string().parse(), Ok(border));
        }
        for text in ["", "event", "moment x", "moment 1+", "ending"] {
            assert!(text.parse::<Border>().is_err(), "{text}");
        }
    }
}
