//! A leaf from what its segment alone can tell.

use std::collections::BTreeMap;

use model::{Call, Tid};
use replay::{MemoryId, Observed};
use rustc_hash::FxHashMap;
use store::{CodeRun, Count, LeafEncoder, Lineage, Owner, PageId, ReadPage, WrittenPage};

use crate::Error;
use crate::pages;
use crate::records::{CallerRun, CallersRecord, ForkRecord, blob, encode as encode_record};
use crate::segment::Material;

/// Class of counted keys: uses of a file description, by its number.
const DESCRIPTION: u32 = 1;

/// Encodes everything but call stacks; also tells whose calls the calls are.
pub fn encode(
    material: &Material,
    number: u64,
    level: i32,
) -> Result<(LeafEncoder, CallersRecord), Error> {
    let observed = &material.observed;
    let mut leaf = LeafEncoder::new(level)?;
    leaf.blob(blob::STATE, &material.state)?;
    leaf.memory(pages::deltas(&material.pages))?;
    leaf.lineages(material.bases.iter().map(|(child, base)| Lineage {
        owner: Owner(*child),
        parent: Some((Owner(*base), number)),
    }))?;
    leaf.written(observed.written.iter().map(|(page, words)| WrittenPage {
        page: PageId { owner: owner(page.memory), page: page.page },
        words: *words,
    }))?;
    leaf.read(observed.read.iter().map(|(page, lines)| ReadPage {
        page: PageId { owner: owner(page.memory), page: page.page },
        lines: *lines,
    }))?;
    leaf.code(observed.executions.iter().map(|run| CodeRun {
        owner: owner(run.space),
        start: run.range.start,
        end: run.range.end,
        count: run.count,
        children: 1,
    }))?;
    let callers = callers(observed);
    calls(&mut leaf, &callers, &observed.calls)?;
    leaf.happenings(material.happenings.iter().cloned())?;
    leaf.keys(material.transfers.iter().map(|description| Count {
        class: DESCRIPTION,
        key: *description,
        count: 1,
        children: 1,
    }))?;
    leaf.blob(blob::MAPPINGS, &encode_record(&pages::mapping_records(&observed.mappings)))?;
    Ok((leaf, callers))
}

fn owner(memory: MemoryId) -> Owner {
    Owner(memory.0)
}

fn calls(leaf: &mut LeafEncoder, callers: &CallersRecord, calls: &[Call]) -> Result<(), Error> {
    let mut by_task: BTreeMap<u32, Vec<&[Call]>> = BTreeMap::new();
    let mut called: FxHashMap<(u32, u64), u64> = FxHashMap::default();
    let mut rest = calls;
    for run in &callers.runs {
        let (calls, behind) = rest.split_at(run.calls as usize);
        rest = behind;
        by_task.entry(run.tid.0 as u32).or_default().push(calls);
        for call in calls.iter().filter(|call| call.is_call) {
            *called.entry((run.space, call.target.0)).or_default() += 1;
        }
    }
    for (task, calls) in by_task {
        leaf.calls(Tid(task as i32), calls)?;
    }
    let mut called: Vec<((u32, u64), u64)> = called.into_iter().collect();
    called.sort_unstable();
    leaf.called(called.into_iter().map(|((class, key), count)| Count {
        class,
        key,
        count,
        children: 1,
    }))?;
    leaf.blob(blob::CALLERS, &encode_record(callers))?;
    Ok(())
}

/// Whose calls were observed.
fn callers(observed: &Observed) -> CallersRecord {
    let mut begin = 0;
    let runs = observed.call_runs.iter().map(|run| {
        let calls = (run.end - begin) as u64;
        begin = run.end;
        CallerRun { tid: run.tid, space: run.space.0, calls }
    });
    let forks = observed.forks.iter().map(|fork| ForkRecord {
        moment: fork.moment,
        parent: fork.parent,
        child: fork.child,
        from: fork.from.0,
        space: fork.space.0,
    });
    CallersRecord {
        runs: runs.collect(),
        forks: forks.collect(),
        ended: observed.ended.iter().map(|space| space.0).collect(),
    }
}
