//! What a host fault inside translated code means: a missed jump, the end of the budget, a write
//! to code, an operand that fast code cannot reach, or a fault of the guest.

use iced_x86::Instruction;
use model::{Address, gpr};

use super::observed::{changed, correct_executions, undo};
use super::{Machine, Step, fetch};
use crate::block::Mode;
use crate::emulate;
use crate::faults::{self, Position};
use crate::memory::AccessKind;
use crate::translate::{Class, classify};
use crate::{Cpu, Error, Exit, Fault, Space, layout};

impl Machine {
    /// Makes the state precise after a host fault and finds out what it was. `None` is a missed
    /// indirect jump to `cpu.rip`.
    pub(super) fn fault(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
    ) -> Result<Option<Step>, Error> {
        self.statistics.faults += 1;
        let state = self.state();
        let fault = state.fault;
        if fault.rip == 0 {
            cpu.rip = Address(state.s);
            return Ok(None);
        }
        let Some(view) = self.cache.block_at(fault.rip) else {
            panic!("host fault in the code cache but in no block: {fault:x?}");
        };
        let state = self.state_unchecked();
        let found = faults::roll_back(state, view);
        let (position, mode) = (found.position, view.block.mode);
        // What it stored nevertheless (see `changed`) it will store again, under observation.
        let dropped = self.observations.dropped_stores(state, space, found.dropped);
        undo(space, &changed(space, dropped))?;
        if mode == Mode::Fast && self.compiled.executions {
            correct_executions(&mut self.observations, view.places, found);
        }
        match position {
            Position::Indirect => {
                cpu.rip = Address(state.s);
                if !mode.counts() {
                    count(cpu, &view.places[0]);
                    return Ok(Some(Step::Continue));
                }
                return Ok(None);
            }
            Position::Budget(index) => {
                cpu.rip = view.places[index].address;
                return Ok(Some(Step::Continue));
            }
            Position::StackSet(index, value) => {
                let place = view.places[index];
                state.general[gpr::RSP] = value;
                cpu.rip = place.address + u64::from(place.length);
                if !mode.counts() {
                    count(cpu, &place);
                }
                return Ok(Some(Step::Continue));
            }
            Position::Before(index) => cpu.rip = view.places[index].address,
        }
        self.guest_fault(space, cpu, mode).map(Some)
    }

    /// The instruction at `cpu.rip` faulted in the host: the guest's doing, or ours to mend.
    fn guest_fault(&mut self, space: &mut Space, cpu: &mut Cpu, mode: Mode) -> Result<Step, Error> {
        let host = self.state().fault;
        let Some(instruction) = fetch(space, cpu.rip) else {
            return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
        };
        if host.vector == faults::ALIGNMENT && mode.counts() && self.observes_memory() {
            // Perhaps the guest wants its accesses checked, and it was the mark of an access that
            // was not aligned: alone, the instruction runs without marks.
            return self.single(space, cpu);
        }
        if !matches!(host.vector, faults::STACK | faults::PROTECTION | faults::PAGE) {
            if host.signal == libc::SIGILL && !host_has(&instruction) {
                return Err(self.unsupported(cpu.rip, &instruction));
            }
            return Ok(Step::Exit(Exit::Fault(faults::plain_fault(&host, cpu.rip))));
        }
        if host.vector == faults::PAGE
            && host.error & 2 != 0
            && let Some(address) = space.guest(host.address)
            && space.write_fault(address)?
        {
            self.drop_stale(space);
            return self.single(space, cpu);
        }
        self.save(cpu);
        let accesses = faults::accesses(&mut self.tools.info, &instruction, cpu);
        if mode == Mode::Bound {
            cpu.vector = self.state().vector.clone();
            let fault = access_fault(space, cpu, &instruction, &accesses, &host);
            return Ok(Step::Exit(Exit::Fault(fault)));
        }
        self.carry_out(space, cpu, &instruction, &accesses)
    }

    /// Executes an instruction whose operand the fast sequence cannot reach.
    fn carry_out(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: &Instruction,
        accesses: &[faults::Access],
    ) -> Result<Step, Error> {
        let plain = translates_bound(instruction) && accesses.len() == 1;
        if !plain {
            return self.emulate(space, cpu, instruction, None);
        }
        let access = &accesses[0];
        let canonical = access.address >> 47 == 0;
        let host = if canonical { space.host(Address(access.address)) } else { None };
        // Alignment is preserved: it may matter more than the address.
        self.state().s = host.unwrap_or(layout::NOWHERE + access.address % 4096);
        self.single_in(space, cpu, Mode::Bound)
    }
}

fn count(cpu: &mut Cpu, place: &crate::block::Place) {
    cpu.instructions += 1;
    cpu.ticks += u64::from(place.tick);
}

/// The fault of fetching at an address that is not executable, or at the page behind one that is.
pub(super) fn fetch_fault(space: &Space, rip: Address) -> Exit {
    let mut bytes = [0; 15];
    let first = rip + space.fetch(rip, &mut bytes) as u64;
    if !faults::is_canonical(first.0) {
        return Exit::Fault(faults::protection_fault(false));
    }
    let mapped = space.access(first, 1, AccessKind::Execute).is_err_and(|refused| refused.mapped);
    Exit::Fault(faults::page_fault(first.0, mapped))
}

/// The guest fault for an access that the host refused.
fn access_fault(
    space: &Space,
    cpu: &Cpu,
    instruction: &Instruction,
    accesses: &[faults::Access],
    host: &crate::state::HostFault,
) -> Fault {
    // First what a mask chooses; should nothing be wrong with that, the instruction is one of those
    // that access all of their operand.
    let chosen =
        accesses.iter().map(|access| (access, emulate::parts_by_mask(cpu, instruction, access)));
    let whole =
        accesses.iter().map(|access| (access, vec![Address(access.address).range(access.size)]));
    for (access, parts) in chosen.chain(whole) {
        let kind = if access.write { AccessKind::Write } else { AccessKind::Read };
        for part in parts {
            let last = Address(part.end.0.wrapping_sub(1));
            if !faults::is_canonical(part.start.0) || !faults::is_canonical(last.0) {
                return faults::protection_fault(access.stack);
            }
            if host.vector == faults::PROTECTION {
                break;
            }
            if part.start.0 >> 47 != 0 {
                return faults::page_fault(part.start.0, false);
            }
            if let Err(refused) = space.access(part.start, part.end - part.start, kind) {
                return faults::page_fault(refused.address.0, refused.mapped);
            }
        }
    }
    // All of it is accessible: an alignment that the instruction demands.
    faults::protection_fault(false)
}

/// Whether the instruction can run with its one memory operand at a host address in scratch S.
fn translates_bound(instruction: &Instruction) -> bool {
    crate::translate::has_memory(instruction) && matches!(classify(instruction), Class::Plain)
}

/// Whether this host's processor has every feature that the instruction needs, as far as known.
fn host_has(instruction: &Instruction) -> bool {
    instruction.is_invalid()
        || instruction.flow_control() == iced_x86::FlowControl::Exception
        || crate::features::host_has(instruction)
}
