//! A task ends (rr-replay 4.12).

use rr_trace::TaskEventKind;

use crate::problem::Result;
use crate::session::Session;
use crate::source::Current;

impl Session {
    pub(super) fn complete_exit(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        self.apply_writes(current)?;
        let leader = self.task(tid)?.leader;
        for event in &current.task_events {
            if let (true, TaskEventKind::Exit { status }) = (event.tid == tid, &event.kind) {
                self.groups.entry(leader).or_default().exit_status = Some(*status);
            }
        }
        self.remove_task(tid)
    }
}
