//! Hops of calls: arguments and results.

use model::{Address, gpr};

use super::trail::Trail;
use super::{Spot, Story};
use crate::engine::Here;
use crate::eval::arguments;
use crate::failure::Failure;
use crate::frames::{Frame, Stack};
use crate::origin::definition::{Crossing, Way};
use crate::origin::hop::HopKind;
use crate::origin::semantics::Cell;
use crate::protocol::{FrameId, Place};
use crate::stretch::{FrameChange, FrameKind};

impl Story<'_, '_, '_> {
    /// Calls that the content went through.
    pub(super) fn passed(
        &mut self,
        mut trail: Trail,
        crossings: &[Crossing],
    ) -> Result<Trail, Failure> {
        for crossing in crossings {
            let Crossing { frame, way } = *crossing;
            if frame.kind != FrameKind::Call || self.is_seeking() {
                continue;
            }
            let moment = frame.entry;
            let here = self.here(trail.tid, moment);
            let Spot::Register { cell, .. } = trail.spot else { break };
            if !carries(cell, way) {
                continue;
            }
            let (text, place) = self.call_text(here, &frame, way)?;
            let mut hop = self.hop(&trail, HopKind::Passed, moment, text);
            hop.place = place;
            hop.frame = Some(FrameId { entry: frame.entry, inlined: 0 });
            hop.focus.frame = hop.frame;
            match &mut trail.store {
                Some(store) => store.passed.push(hop),
                None => {
                    trail.depth += 1;
                    self.send(hop);
                }
            }
        }
        Ok(trail)
    }

    /// `make(serial=10)`, and where it was called.
    pub(super) fn call_text(
        &mut self,
        here: Here,
        frame: &FrameChange,
        way: Way,
    ) -> Result<(String, Place), Failure> {
        let stack = Stack::innermost(self.engine, here, frame)?;
        let space = stack.space;
        let known: Frame = stack.frames[0];
        let spot = self.engine.places.look(self.engine.db, space, frame.function, here.moment);
        let function = spot.place(0).function;
        let name = function.unwrap_or_else(|| format!("{}", frame.function));
        let arguments = arguments(self.engine, here, space, &known)?;
        let list: Vec<String> = arguments.iter().map(|row| row.in_list()).collect();
        let call = format!("{name}({})", list.join(", "));
        let text = match way {
            Way::In => call,
            Way::Out => format!("returned by {call}"),
        };
        let word = {
            let session = self.engine.at(here.moment)?;
            session.memory(here.tid).and_then(|memory| memory.read_u64(frame.slot).ok())
        };
        let back = Address(word.unwrap_or_default().wrapping_sub(1));
        let place = self.engine.places.look(self.engine.db, space, back, here.moment).innermost();
        Ok((text, place))
    }
}

/// Whether a register carries arguments into calls, or results out of them (psABI, 3.2.3).
fn carries(cell: Cell, way: Way) -> bool {
    const ARGUMENTS: [usize; 6] = [gpr::RDI, gpr::RSI, gpr::RDX, gpr::RCX, gpr::R8, gpr::R9];
    const RESULTS: [usize; 2] = [gpr::RAX, gpr::RDX];
    match (cell, way) {
        (Cell::General(number), Way::In) => ARGUMENTS.contains(&usize::from(number)),
        (Cell::General(number), Way::Out) => RESULTS.contains(&usize::from(number)),
        (Cell::Vector(number), Way::In) => number < 8,
        (Cell::Vector(number), Way::Out) => number < 2,
    }
}
