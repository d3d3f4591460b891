//! One segment: run and observed.

use std::cell::RefCell;
use std::rc::Rc;

use machine::Observers;
use model::{Call, Moment};
use replay::{
    Checkpoint, DescriptorEvent, DescriptorObserver, EventReport, Observed, Progress, Session,
};

use crate::Error;
use crate::pages::{self, Bases, PageVersions};
use crate::records::{BufferedCallRecord, EventRecord, encode, happening};

/// What every segment is run with.
pub const OBSERVERS: Observers = Observers {
    written_words: true,
    read_lines: true,
    executions: true,
    calls: true,
    control_flow: false,
    stores: false,
};

/// Runs segments one after the other.
#[derive(Debug)]
pub struct Recorder {
    start: Checkpoint,
    happenings: Vec<store::Happening>,
    descriptors: Sink,
}

/// What a segment alone can tell, for [`crate::leaf::encode`].
#[derive(Debug)]
pub struct Material {
    /// At the end: `Checkpoint::encode_state`.
    pub state: Vec<u8>,
    /// What address spaces that came to be are copies of.
    pub bases: Bases,
    pub pages: Vec<PageVersions>,
    pub observed: Observed,
    /// In order of time.
    pub happenings: Vec<store::Happening>,
    /// The file descriptions that were read or written, as often as they were.
    pub transfers: Vec<u64>,
}

/// Collects what is told about descriptors.
#[derive(Clone, Debug, Default)]
struct Sink(Rc<RefCell<Vec<DescriptorEvent>>>);

impl DescriptorObserver for Sink {
    fn observe(&mut self, event: &DescriptorEvent, _: &machine::Space) {
        self.0.borrow_mut().push(event.clone());
    }
}

impl Recorder {
    /// Begins where the session is.
    pub fn new(session: &mut Session) -> Result<Recorder, Error> {
        session.observe(OBSERVERS)?;
        let descriptors = Sink::default();
        session.observe_descriptors(Some(Box::new(descriptors.clone())));
        let start = session.checkpoint()?;
        Ok(Recorder { start, happenings: Vec::new(), descriptors })
    }

    /// Goes on to `end`; events there that need no instruction belong to the next segment.
    pub fn run(&mut self, session: &mut Session, end: Moment) -> Result<Progress, Error> {
        loop {
            match session.advance(Some(end))? {
                Progress::Event(report) => self.note_event(session, &report),
                Progress::Moment if session.moment() < end => {}
                stop => return Ok(stop),
            }
        }
    }

    fn note_event(&mut self, session: &Session, report: &EventReport) {
        let registers = session.registers(report.tid).unwrap_or_default();
        let general = |index: usize| registers.general[index];
        use model::gpr::{R8, R9, R10, RAX, RDI, RDX, RSI};
        let record = EventRecord {
            tid: report.tid,
            kind: report.kind.clone(),
            ticks: report.ticks.0,
            rip: registers.rip,
            call: [RAX, RDI, RSI, RDX, R10, R8, R9].map(general),
        };
        self.happenings.push(store::Happening {
            moment: report.moment,
            event: report.event,
            kind: happening::EVENT,
            payload: encode(&record),
        });
    }

    /// Ends the segment here; the next one begins. The memory of `spare` takes its calls.
    pub fn take(&mut self, session: &mut Session, spare: Vec<Call>) -> Result<Material, Error> {
        let observed = session.take_observed(spare)?;
        let end = session.checkpoint()?;
        let bases = pages::bases(&self.start, &observed);
        let pages = pages::versions(&self.start, &end, &bases, &observed.mappings);
        let state = end.encode_state();
        self.start = end;
        let mut happenings = std::mem::take(&mut self.happenings);
        let mut transfers = Vec::new();
        for event in self.descriptors.0.borrow_mut().drain(..) {
            if let replay::Happening::Transferred(transfer) = &event.what {
                transfers.push(transfer.description.0.into());
            }
            happenings.push(store::Happening {
                moment: event.moment,
                event: event.event,
                kind: happening::DESCRIPTOR,
                payload: encode(&event),
            });
        }
        for call in &observed.buffered_calls {
            let replay::BufferedCall { moment, event, tid, number, arguments, result } = *call;
            happenings.push(store::Happening {
                moment,
                event,
                kind: happening::BUFFERED_CALL,
                payload: encode(&BufferedCallRecord { tid, number, arguments, result }),
            });
        }
        happenings.sort_by_key(|happening| (happening.moment, happening.event));
        Ok(Material { state, bases, pages, observed, happenings, transfers })
    }
}
