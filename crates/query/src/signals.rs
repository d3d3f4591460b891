//! Signals that the kernel delivered, from the events of the recording.

use std::sync::Arc;

use model::{Address, Event, Tid};
use rr_trace::{Disposition, EventKind, Signal};

use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::{Code, Failure};

/// Signals of one recording, at most.
const SIGNALS_MAX: usize = 1 << 20;
/// Events between two looks at the clock.
const PIECE: u64 = 1 << 12;

/// A signal when it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub event: Event,
    pub tid: Tid,
    pub number: i32,
    /// `si_code`.
    pub code: i32,
    pub disposition: Disposition,
    /// The numbers that follow: what they mean depends on the code.
    fields: [i32; 4],
}

/// Where a signal comes from (sigaction(2), `si_code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An instruction, and the address that it is about.
    Fault(Address),
    /// Somebody's call, with a value of sigqueue(3).
    Sent {
        process: i32,
        value: Option<i32>,
    },
    /// A child.
    Child {
        process: i32,
        status: i32,
    },
    Timer,
    Kernel,
    Other,
}

const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;
const SI_QUEUE: i32 = -1;
const SI_TIMER: i32 = -2;
const SI_TKILL: i32 = -6;
const SIGCHLD: i32 = 17;
/// ILL, TRAP, BUS, FPE, SEGV.
const FAULTS: [i32; 5] = [4, 5, 7, 8, 11];

impl Delivered {
    /// `siginfo_t` of x86-64: what depends on the code begins at 16.
    fn new(event: Event, tid: Tid, signal: &Signal) -> Delivered {
        let word = |index: usize| {
            let bytes = signal.siginfo.get(16 + 4 * index..20 + 4 * index);
            bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_le_bytes)
        };
        Delivered {
            event,
            tid,
            number: signal.number(),
            code: signal.code(),
            disposition: signal.disposition,
            fields: [word(0), word(1), word(2), word(3)],
        }
    }

    pub fn origin(&self) -> Origin {
        let [first, second, third, _] = self.fields;
        match self.code {
            SI_USER | SI_TKILL => Origin::Sent { process: first, value: None },
            SI_QUEUE => Origin::Sent { process: first, value: Some(third) },
            SI_TIMER => Origin::Timer,
            SI_KERNEL => Origin::Kernel,
            1.. if self.number == SIGCHLD => Origin::Child { process: first, status: third },
            1.. if FAULTS.contains(&self.number) => {
                let [low, high] = [first, second].map(|half| u64::from(half as u32));
                Origin::Fault(Address(high << 32 | low))
            }
            _ => Origin::Other,
        }
    }

    /// The name of the code.
    pub fn code_name(&self) -> Option<&'static str> {
        let names: &[&str] = match self.number {
            _ if self.code <= 0 || self.code == SI_KERNEL => {
                return match self.code {
                    SI_USER => Some("SI_USER"),
                    SI_KERNEL => Some("SI_KERNEL"),
                    SI_QUEUE => Some("SI_QUEUE"),
                    SI_TIMER => Some("SI_TIMER"),
                    -3 => Some("SI_MESGQ"),
                    -4 => Some("SI_ASYNCIO"),
                    -5 => Some("SI_SIGIO"),
                    SI_TKILL => Some("SI_TKILL"),
                    _ => None,
                };
            }
            4 => &[
                "ILL_ILLOPC",
                "ILL_ILLOPN",
                "ILL_ILLADR",
                "ILL_ILLTRP",
                "ILL_PRVOPC",
                "ILL_PRVREG",
                "ILL_COPROC",
                "ILL_BADSTK",
            ],
            5 => &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT"],
            7 => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"],
            8 => &[
                "FPE_INTDIV",
                "FPE_INTOVF",
                "FPE_FLTDIV",
                "FPE_FLTOVF",
                "FPE_FLTUND",
                "FPE_FLTRES",
                "FPE_FLTINV",
                "FPE_FLTSUB",
            ],
            11 => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
            SIGCHLD => &[
                "CLD_EXITED",
                "CLD_KILLED",
                "CLD_DUMPED",
                "CLD_TRAPPED",
                "CLD_STOPPED",
                "CLD_CONTINUED",
            ],
            _ => &[],
        };
        names.get(usize::try_from(self.code - 1).ok()?).copied()
    }
}

/// All of them, as far as the database reaches. `None` if there is no time to read them.
///
/// # Errors
///
/// A recording that cannot be read, or with too many signals.
pub fn delivered(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
) -> Result<Option<Arc<Vec<Delivered>>>, Failure> {
    if let Some(known) = &engine.signals {
        return Ok(Some(Arc::clone(known)));
    }
    let history = &engine.db.history;
    let events = history.events();
    // What is behind the last signal need not be read.
    let last = events.iter().rfind(|event| history.kind(event).starts_with("SIGNAL"));
    let mut found = Vec::new();
    if let Some(last) = last {
        for frame in engine.db.trace.frames()? {
            let frame = frame?;
            if frame.event > last.event {
                break;
            }
            // The one tells of signals with a handler, the other of those without.
            if let EventKind::SignalDelivery(signal) | EventKind::SignalHandler(signal) =
                &frame.kind
            {
                if found.len() >= SIGNALS_MAX {
                    let what = format!("the recording has more than {SIGNALS_MAX} signals");
                    return Err(Failure::new(Code::NotAvailable, what));
                }
                found.push(Delivered::new(frame.event, frame.tid, signal));
            }
            if frame.event.0 % PIECE == 0 && asked.is_interrupted() {
                return Ok(None);
            }
        }
    }
    let found = Arc::new(found);
    engine.signals = Some(Arc::clone(&found));
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_trace::Arch;

    fn signal(number: i32, code: i32, fields: [i32; 3]) -> Delivered {
        let words = [[number, 0, code, 0].as_slice(), &fields].concat();
        let siginfo = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let disposition = Disposition::Fatal;
        let signal =
            Signal { siginfo_arch: Arch::X8664, siginfo, deterministic: true, disposition };
        Delivered::new(Event(1), Tid(1), &signal)
    }

    #[test]
    fn origins() {
        let fault = signal(11, 1, [0x10, 0x7fff, 0]);
        assert_eq!(fault.origin(), Origin::Fault(Address(0x7fff_0000_0010)));
        assert_eq!(fault.code_name(), Some("SEGV_MAPERR"));
        let queued = signal(12, -1, [77, 1000, 4711]);
        assert_eq!(queued.origin(), Origin::Sent { process: 77, value: Some(4711) });
        let child = signal(17, 1, [78, 0, 7]);
        assert_eq!(child.origin(), Origin::Child { process: 78, status: 7 });
        assert_eq!(child.code_name(), Some("CLD_EXITED"));
        assert_eq!(signal(11, 0x80, [0; 3]).origin(), Origin::Kernel);
        assert_eq!(signal(11, i32::MIN, [0; 3]).code_name(), None);
        assert_eq!(signal(8, i32::MAX, [0; 3]).code_name(), None);
    }
}
