//! How long a recording is: its instructions are not recorded, its ticks are.

use std::collections::BTreeMap;

use model::Tid;
use rr_trace::Trace;

/// Ticks of all tasks, as far as the recording can be read.
pub fn recorded_ticks(trace: &Trace) -> u64 {
    let mut tasks: BTreeMap<Tid, u64> = BTreeMap::new();
    let mut sum = 0u64;
    for frame in trace.frames().into_iter().flatten().map_while(Result::ok) {
        let before = tasks.insert(frame.tid, frame.ticks.0).unwrap_or(0);
        // Otherwise it is another task with the number of one that has ended.
        let more = frame.ticks.0.checked_sub(before).unwrap_or(frame.ticks.0);
        sum = sum.saturating_add(more);
    }
    sum
}
