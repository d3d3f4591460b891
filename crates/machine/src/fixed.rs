//! The machine's fixed places in the host's address space, and the right to use them.

#![allow(unsafe_code)] // fills in the state at its fixed address

use std::sync::{Condvar, Mutex, PoisonError};

use crate::host::{Reservation, set_gs_base};
use crate::state::State;
use crate::{Error, entry, layout};

static IN_USE: Mutex<bool> = Mutex::new(false);
static FREED: Condvar = Condvar::new();

/// Held by the one machine of the process.
#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Turn {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        while *in_use {
            in_use = FREED.wait(in_use).unwrap_or_else(PoisonError::into_inner);
        }
        *in_use = true;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *IN_USE.lock().unwrap_or_else(PoisonError::into_inner) = false;
        FREED.notify_one();
    }
}

/// State, probe page and execution counters, mapped; handlers installed; gs base set.
#[derive(Debug)]
pub struct Fixed {
    _state: Reservation,
    _probe: Reservation,
    counters: Reservation,
    _turn: Turn,
}

impl Fixed {
    pub fn new() -> Result<Fixed, Error> {
        let turn = Turn::take();
        require_features()?;
        let bytes = (size_of::<State>() as u64).next_multiple_of(4096);
        let state = Reservation::new(Some(layout::STATE), bytes, "the processor state")?;
        state.open(0, bytes, "the processor state")?;
        let (start, length) = (layout::PROBE - layout::PROBE_BYTES, layout::PROBE_BYTES);
        let probe = Reservation::new(Some(start), length + 4096, "the budget probe")?;
        probe.open(0, length, "the budget probe")?;
        let counters_length = layout::COUNTERS.end - layout::COUNTERS.start;
        let counters =
            Reservation::new(Some(layout::COUNTERS.start), counters_length, "execution counters")?;
        let host = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Host { what, source }
        };
        entry::install().map_err(host("cannot install fault handlers"))?;
        set_gs_base(layout::CODE_MAPS).map_err(host("cannot set the gs base"))?;
        // SAFETY: just mapped, zeroed, and nobody else knows the address while we hold the turn.
        let fields = unsafe { &mut *crate::state::state() };
        // The shift count for units, which every lookup takes from the counter's low bits.
        fields.counter = 32;
        fields.exit_code = entry::exit_code();
        fields.word_mask = !7;
        fields.line_mask = !63;
        fields.xsave_mask = crate::features::xsave_mask();
        Ok(Fixed { _state: state, _probe: probe, counters, _turn: turn })
    }
}

impl Fixed {
    /// Makes the execution counters usable; they are zero at first.
    pub fn open_counters(&self) -> Result<(), Error> {
        let length = layout::COUNTERS.end - layout::COUNTERS.start;
        self.counters.open(0, length, "execution counters")?;
        self.counters.prefer_huge_pages();
        Ok(())
    }

    /// The first `count` execution counters; they must have been opened.
    pub fn counters(&mut self, count: usize) -> &mut [u32] {
        self.counters.half_words(count)
    }
}

fn require_features() -> Result<(), Error> {
    let missing: Vec<&str> = [
        ("bmi2", std::is_x86_feature_detected!("bmi2")),
        ("xsave", std::is_x86_feature_detected!("xsave")),
    ]
    .into_iter()
    .filter_map(|(name, present)| (!present).then_some(name))
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::HostLacks { features: missing.join(", ") })
}
