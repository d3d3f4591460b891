//! Where stories end, or go on in another task: the kernel, files, the beginning of a program.

use model::{Address, Moment, Tid, gpr};

use super::trail::Trail;
use super::{EXECUTES, NEVER_WRITTEN, Spot, Story};
use crate::accesses::Access;
use crate::call_names;
use crate::failure::Failure;
use crate::history::ChangeKind;
use crate::origin::hop::{Hop, HopKind};
use crate::origin::kernel;
use crate::origin::semantics::Cell;
use crate::program::{in_program, own_frame};
use crate::protocol::Focus;

/// How stories say that bytes are those of a file.
const CONTENT: &str = "content of the file";
const BY_EXECVE: &str = "put there by execve";

impl Story<'_, '_, '_> {
    /// The kernel wrote the memory.
    pub(super) fn kernel(
        &mut self,
        mut trail: Trail,
        access: &Access,
        call: Option<i32>,
        address: Address,
    ) -> Result<(), Failure> {
        let name = call.map_or_else(|| "the kernel".to_owned(), call_names::name);
        if call.is_some_and(|call| EXECUTES.contains(&call)) {
            return self.loaded(trail, access, address);
        }
        let found = kernel::reader(self.engine, access.tid, address, access.moment)?;
        let Some(moved) = found else {
            let text = match call {
                Some(_) => format!("written by the system call {name}"),
                None => "written by the kernel".to_owned(),
            };
            let moment = access.moment;
            return self.ends_in_program(trail, HopKind::Kernel, moment, text);
        };
        let leaf = self.engine.leaf_at(moved.event.moment)?;
        let description = kernel::description(self.engine.db, leaf, moved.transfer.description)?;
        let what = kernel::described(description.as_ref());
        let from = moved.transfer.start + moved.at;
        let length = trail.length().min(moved.length);
        let descriptor = moved.transfer.descriptor;
        if length < trail.length() {
            let rest = trail.part(&(length..trail.length()));
            self.later(rest);
            trail = trail.part(&(0..length));
        }
        let place = match moved.transfer.offset {
            Some(offset) => format!("from offset {}", offset.value + moved.at),
            None => format!("byte {from} of the stream"),
        };
        let text = format!("{name}({descriptor}) from {what}, {place}");
        let begun = moved.transfer.begun;
        let writer = kernel::writer(self.engine, self.asked, &moved)?;
        let Some(writer) = writer else {
            return self.ends_in_program(trail, HopKind::Kernel, begun, text);
        };
        let mut hop = self.hop(&trail, HopKind::Kernel, begun, text);
        self.in_program(&mut hop, trail.tid, begun)?;
        trail.depth += 1;
        self.send(hop);
        self.given(trail, &writer, &what)
    }

    /// The memory is as it was when a program began.
    pub(super) fn loaded(
        &mut self,
        trail: Trail,
        access: &Access,
        address: Address,
    ) -> Result<(), Failure> {
        let zero = trail.value.iter().all(|byte| *byte == 0);
        let history = &self.engine.db.history;
        let mapped = history.mapped(access.space, address, access.moment);
        let text = match mapped {
            Some(mapped) if mapped.name.starts_with('/') => {
                let offset = mapped.offset + (address - mapped.range.start);
                format!("{CONTENT} {} from offset {offset}", mapped.name)
            }
            Some(mapped) if &*mapped.name == "[stack]" => {
                // The program has what lies above the stack pointer that it begins with.
                let began = self.engine.at(access.moment + 1)?.registers(access.tid);
                let top = began.unwrap_or_default().general[gpr::RSP];
                match (address.0 < top, zero) {
                    (true, true) => NEVER_WRITTEN.to_owned(),
                    (true, false) => BY_EXECVE.to_owned(),
                    (false, _) => "an argument or the environment of the program".to_owned(),
                }
            }
            _ if zero => NEVER_WRITTEN.to_owned(),
            _ => BY_EXECVE.to_owned(),
        };
        let moment = trail.moment;
        let text = self.with_string(&trail, moment, address, text)?;
        self.ends(trail, HopKind::Source, access.moment, text)
    }

    /// If it is in a string of letters, the string.
    pub(super) fn with_string(
        &mut self,
        trail: &Trail,
        moment: Moment,
        address: Address,
        text: String,
    ) -> Result<String, Failure> {
        const STRING_MAX: u64 = 200;
        if trail.value.iter().all(|byte| *byte == 0) && !text.starts_with(CONTENT) {
            return Ok(text);
        }
        let session = self.engine.at(moment)?;
        let Some(memory) = session.memory(trail.tid) else { return Ok(text) };
        let byte = |at: Address| {
            let mut byte = [0];
            memory.read(at, &mut byte).ok().map(|()| byte[0])
        };
        let is_text = |byte: Option<u8>| {
            byte.is_some_and(|byte| (b' '..=b'~').contains(&byte) || byte >= 0x80)
                || matches!(byte, Some(b'\n' | b'\t'))
        };
        let mut start = address;
        while address - start < STRING_MAX && is_text(byte(Address(start.0.wrapping_sub(1)))) {
            start = Address(start.0 - 1);
        }
        let mut content = Vec::new();
        while (content.len() as u64) < STRING_MAX
            && let Some(next) =
                byte(start + content.len() as u64).filter(|next| is_text(Some(*next)))
        {
            content.push(next);
        }
        let ends = byte(start + content.len() as u64) == Some(0);
        if content.len() < 2 || !ends {
            return Ok(text);
        }
        Ok(format!("{text}: {:?}", String::from_utf8_lossy(&content)))
    }

    /// Goes on in the memory of who gave the bytes to the kernel.
    pub(super) fn given(
        &mut self,
        mut trail: Trail,
        writer: &kernel::Moved,
        what: &str,
    ) -> Result<(), Failure> {
        let begun = writer.transfer.begun;
        let tid = writer.event.tid;
        let place = kernel::memory_of(&writer.transfer, writer.at);
        let many = place.map_or(writer.length, |(_, length)| length).min(writer.length);
        if many < trail.length() {
            // The rest came by another write: found when it is asked about again.
            let mut rest = trail.part(&(many..trail.length()));
            rest.depth = rest.depth.saturating_sub(1);
            self.later(rest);
            trail = trail.part(&(0..many));
        }
        let history = &self.engine.db.history;
        let process = |tid, moment| history.task(tid, moment).map(|task| task.process);
        let kind = match process(tid, begun) == process(trail.tid, trail.moment) {
            _ if tid == trail.tid => HopKind::Kernel,
            true => HopKind::Thread,
            false => HopKind::Process,
        };
        let length = trail.length();
        trail.tid = tid;
        let call = writer.event.call.map_or_else(|| "write".to_owned(), call_names::name);
        let name = self.task_name(tid, begun);
        let descriptor = writer.transfer.descriptor;
        let text = format!("{what}, {length} bytes, {call}({descriptor}) by {name}");
        let mut hop = self.hop(&trail, kind, begun, text);
        self.in_program(&mut hop, tid, begun)?;
        trail.depth += 1;
        self.send(hop);
        let space = self.engine.at(begun)?.space_id(tid);
        let (Some((address, _)), Some(space)) = (place, space) else { return Ok(()) };
        trail.spot = Spot::Memory { space: space.0, address };
        trail.moment = begun;
        self.later(trail);
        Ok(())
    }

    /// Where the program was, not the recorder's library.
    pub(super) fn in_program(
        &mut self,
        hop: &mut Hop,
        tid: Tid,
        moment: Moment,
    ) -> Result<(), Failure> {
        let here = self.here(tid, moment);
        let here = in_program(self.engine, here)?;
        if let Ok((frame, place)) = own_frame(self.engine, here) {
            hop.place = place;
            hop.frame = Some(frame);
        }
        hop.focus = Focus { frame: hop.frame, ..Focus::at(here.moment, here.task) };
        Ok(())
    }

    /// The memory became what it was by a mapping.
    pub(super) fn mapped(
        &mut self,
        trail: Trail,
        access: &Access,
        kind: ChangeKind,
        address: Address,
    ) -> Result<(), Failure> {
        let history = self.engine.db.history.spaces.get(&access.space);
        let change = history.and_then(|history| {
            let changes = history.changes.iter();
            let mut of = changes
                .filter(|change| change.moment == access.moment && change.range.contains(&address));
            of.next_back().cloned()
        });
        if let (ChangeKind::Moved { from }, Some(change)) = (kind, &change) {
            let mut trail = trail;
            let old = from + (address - change.range.start);
            let text = format!("moved from {old} by mremap");
            let hop = self.hop(&trail, HopKind::Copied, access.moment, text);
            trail.depth += 1;
            self.send(hop);
            trail.spot = Spot::Memory { space: access.space, address: old };
            trail.moment = Moment(access.moment.0.saturating_sub(1));
            self.later(trail);
            return Ok(());
        }
        let text = match (kind, change) {
            (ChangeKind::Mapped, Some(change)) if change.name.starts_with('/') => {
                let offset = change.offset + (address - change.range.start);
                format!("{CONTENT} {} from offset {offset}", change.name)
            }
            (ChangeKind::Mapped, Some(change)) if !change.name.is_empty() => {
                format!("never written: {} is zero when it is mapped", change.name)
            }
            (ChangeKind::Discarded, _) => "discarded: zero by madvise".into(),
            _ => "never written: zero when it was mapped".into(),
        };
        let zero = trail.value.iter().all(|byte| *byte == 0);
        if !zero && !text.starts_with(CONTENT) {
            return self.lost(
                trail,
                access.moment,
                "who wrote it since it was mapped is not known",
            );
        }
        let moment = trail.moment;
        let text = self.with_string(&trail, moment, address, text)?;
        self.ends_in_program(trail, HopKind::Source, access.moment, text)
    }

    pub(super) fn never_written(&mut self, trail: Trail, address: Address) -> Result<(), Failure> {
        let moment = trail.moment;
        let Spot::Memory { space, .. } = trail.spot else { return Ok(()) };
        let mapped = self.engine.db.history.mapped(space, address, moment);
        let text = match mapped {
            Some(mapped) if mapped.name.starts_with('/') => {
                let offset = mapped.offset + (address - mapped.range.start);
                format!("{CONTENT} {} from offset {offset}", mapped.name)
            }
            _ => "never written".to_owned(),
        };
        self.ends(trail, HopKind::Source, moment, text)
    }

    /// The content was there when the task or its program began.
    pub(super) fn began(
        &mut self,
        mut trail: Trail,
        moment: Moment,
        cell: Cell,
    ) -> Result<(), Failure> {
        self.tell_store(&mut trail, HopKind::Stored, None);
        let db = self.engine.db;
        let life = db.history.task(trail.tid, moment);
        let by_program = life.is_some_and(|life| {
            life.programs.iter().any(|program| program.moment == moment) || life.parent.is_none()
        });
        let parent = life.and_then(|life| life.parent);
        let parent = parent.and_then(|number| db.history.task_numbered(number));
        let Some(parent) = parent.filter(|_| !by_program) else {
            let text = "set when the program began".into();
            return self.ends(trail, HopKind::Source, moment, text);
        };
        if cell == Cell::General(gpr::RAX as u8) {
            let text = "result of the system call that made the task".into();
            return self.ends(trail, HopKind::Kernel, moment, text);
        }
        let threads = life.map(|life| life.process) == Some(parent.process);
        let kind = if threads { HopKind::Thread } else { HopKind::Process };
        let text = format!("copied from {}", self.task_name(parent.tid, moment));
        trail.tid = parent.tid;
        trail.moment = moment;
        let hop = self.hop(&trail, kind, moment, text);
        trail.depth += 1;
        self.send(hop);
        self.later(trail);
        Ok(())
    }

    pub(super) fn ends_in_program(
        &mut self,
        mut trail: Trail,
        kind: HopKind,
        moment: Moment,
        text: String,
    ) -> Result<(), Failure> {
        self.tell_store(&mut trail, HopKind::Stored, None);
        let mut hop = self.hop(&trail, kind, moment, text);
        self.in_program(&mut hop, trail.tid, moment)?;
        self.send(hop);
        Ok(())
    }
}
