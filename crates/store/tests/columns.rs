//! Every section comes back as it was put in.

use model::{Address, Event, Moment, Tid};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use store::*;

fn leaf(fill: impl FnOnce(&mut LeafEncoder)) -> Leaf {
    let mut encoder = LeafEncoder::new(3).unwrap();
    fill(&mut encoder);
    EncodedLeaf::from_bytes(encoder.finish().unwrap().as_bytes().to_vec()).unwrap().read().unwrap()
}

fn all<T, E: std::fmt::Debug>(items: Result<impl Iterator<Item = Result<T, E>>, E>) -> Vec<T> {
    items.unwrap().map(Result::unwrap).collect()
}

/// Numbers of all magnitudes.
fn any_size() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
}

fn any_page() -> impl Strategy<Value = PageId> {
    let page = any_size().prop_map(|page| page >> 12);
    (0_u32..3, prop_oneof![0_u64..20, page])
        .prop_map(|(owner, page)| PageId { owner: Owner(owner), page })
}

fn any_mask() -> impl Strategy<Value = WordMask> {
    prop_oneof![
        Just([u64::MAX; 8]),
        any::<[u64; 8]>(),
        (0_usize..512).prop_map(|word| {
            let mut mask = [0; 8];
            mask[word / 64] = 1 << (word % 64);
            mask
        }),
    ]
}

fn bits(mask: &WordMask) -> usize {
    mask.iter().map(|bits| bits.count_ones() as usize).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn written_words(pages in btree_map(any_page(), any_mask(), 0..200)) {
        let leaf = leaf(|leaf| {
            leaf.written(pages.iter().map(|(page, words)| WrittenPage { page: *page, words: *words }))
                .unwrap();
        });
        let mut expected = Vec::new();
        for (page, words) in &pages {
            for line in 0..64 {
                let words = (words[line / 8] >> (line % 8 * 8)) as u8;
                if words != 0 {
                    let line = page.page * 64 + line as u64;
                    expected.push(TouchedLine { owner: page.owner, line, words, children: 1 });
                }
            }
        }
        prop_assert_eq!(all(leaf.written()), expected);
    }

    #[test]
    fn read_lines(pages in btree_map(any_page(), any::<u64>(), 0..3000)) {
        let leaf = leaf(|leaf| {
            leaf.read(pages.iter().map(|(page, lines)| ReadPage { page: *page, lines: *lines }))
                .unwrap();
        });
        let expected: Vec<TouchedLine> = pages
            .iter()
            .flat_map(|(page, lines)| {
                (0..64).filter(move |line| lines >> line & 1 == 1).map(move |line| TouchedLine {
                    owner: page.owner,
                    line: page.page * 64 + line,
                    words: 0xff,
                    children: 1,
                })
            })
            .collect();
        prop_assert_eq!(all(leaf.read()), expected);
    }

    #[test]
    fn memory(
        pages in btree_map(any_page(), (any_mask(), any::<bool>(), any_size()), 0..300),
    ) {
        let deltas: Vec<PageDelta> = pages
            .iter()
            .map(|(page, (words, dropped, seed))| {
                let empty = *dropped && seed % 3 == 0;
                let words = if empty { [0; 8] } else { *words };
                let values = (0..bits(&words) as u64)
                    .map(|n| if n % 3 == 0 { n } else { seed.wrapping_mul(n) })
                    .collect();
                PageDelta { page: *page, dropped: *dropped, words, values, children: 1 }
            })
            .filter(|delta| delta.dropped || !delta.values.is_empty())
            .collect();
        let leaf = leaf(|leaf| leaf.memory(deltas.iter().cloned()).unwrap());
        prop_assert_eq!(&all(leaf.memory()), &deltas);
        for from in deltas.iter().step_by(37).map(|delta| delta.page) {
            let expected: Vec<_> = deltas.iter().filter(|d| d.page >= from).cloned().collect();
            prop_assert_eq!(all(leaf.memory_from(from)), expected);
        }
    }

    #[test]
    fn code(lengths in vec((1_u64..40, 0_u64..3, any_size(), 0_u32..20), 0..4000)) {
        let (mut owner, mut end) = (0, 0);
        let mut runs: Vec<CodeRun> = Vec::new();
        for (length, gap, count, next) in lengths {
            if next == 0 {
                (owner, end) = (owner + 1, 0);
            }
            let start = end + gap * 7;
            end = start + length;
            let (start, end) = (Address(start), Address(end));
            let count = count.max(1);
            runs.push(CodeRun { owner: Owner(owner), start, end, count, children: 1 });
        }
        let leaf = leaf(|leaf| leaf.code(runs.iter().copied()).unwrap());
        let bytes = |runs: &[CodeRun]| -> Vec<(u32, u64, u64)> {
            let bytes = runs.iter().flat_map(|run| {
                (run.start.0..run.end.0).map(|address| (run.owner.0, address, run.count))
            });
            bytes.collect()
        };
        let found = all(leaf.code());
        prop_assert_eq!(bytes(&found), bytes(&runs));
        let apart = found.windows(2).all(|w| {
            (w[0].owner, w[0].end, w[0].count) != (w[1].owner, w[1].start, w[1].count)
        });
        prop_assert!(apart, "runs that are one");
    }

    #[test]
    fn counts(called in btree_map((any::<u32>(), any_size()), any_size(), 0..2000)) {
        let counts: Vec<Count> = called
            .iter()
            .map(|(&(class, key), &count)| {
                Count { class: class >> 1, key, count: count.max(1), children: 1 }
            })
            .collect();
        let mut sorted = counts.clone();
        sorted.sort_by_key(|count| (count.class, count.key));
        sorted.dedup_by_key(|count| (count.class, count.key));
        let leaf = leaf(|leaf| {
            leaf.called(sorted.iter().copied()).unwrap();
            leaf.keys(sorted.iter().rev().copied()).unwrap();
        });
        prop_assert_eq!(&all(leaf.called()), &sorted);
        prop_assert_eq!(&all(leaf.keys()), &sorted);
    }

    #[test]
    fn depths(depths in btree_map(any::<u32>(), any::<i64>(), 0..100)) {
        let leaf = leaf(|leaf| {
            leaf.depths(depths.iter().map(|(task, depth)| (Tid(*task as i32), *depth))).unwrap();
        });
        let expected: Vec<Depths> = depths
            .iter()
            .map(|(task, depth)| Depths { task: Tid(*task as i32), children: 1, depths: vec![*depth] })
            .collect();
        prop_assert_eq!(all(leaf.depths()), expected);
    }

    #[test]
    fn lineages(owners in btree_map(1_u32.., (any::<u32>(), any_size()), 0..100)) {
        let lineages: Vec<Lineage> = owners
            .iter()
            .map(|(&owner, &(parent, border))| Lineage {
                owner: Owner(owner),
                parent: (border % 5 != 0).then_some((Owner(parent % owner), border)),
            })
            .collect();
        let leaf = leaf(|leaf| leaf.lineages(lineages.iter().copied()).unwrap());
        prop_assert_eq!(&all(leaf.lineages()), &lineages);
        prop_assert_eq!(all(leaf.keys()).len(), lineages.len());
    }

    #[test]
    fn happenings(
        steps in vec((0_u64..3, 0_u64..3, any::<u16>(), vec(any::<u8>(), 0..300)), 0..600),
        first in any_size(),
    ) {
        let (mut moment, mut event) = (first / 2, 7);
        let events: Vec<Happening> = steps
            .into_iter()
            .map(|(passed, more, kind, payload)| {
                moment += passed;
                event += more;
                Happening { moment: Moment(moment), event: Event(event), kind, payload }
            })
            .collect();
        let leaf = leaf(|leaf| leaf.happenings(events.iter().cloned()).unwrap());
        prop_assert_eq!(&all(leaf.happenings(Moment(0))), &events);
        for from in events.iter().step_by(53).map(|event| event.moment) {
            let expected: Vec<_> = events.iter().filter(|e| e.moment >= from).cloned().collect();
            prop_assert_eq!(all(leaf.happenings(from)), expected);
        }
    }

    #[test]
    fn arbitrary_calls(
        records in vec((0_u64..100, any::<bool>(), 0_u64..9, any_size()), 0..3000),
        first in any_size(),
    ) {
        let mut moment = first / 2;
        let calls: Vec<Call> = records
            .into_iter()
            .map(|(passed, is_call, target, other)| {
                moment += passed;
                let target = if other % 4 == 0 { other } else { target };
                Call { moment: Moment(moment), is_call, target: Address(target), stack: Address(other) }
            })
            .collect();
        let leaf = leaf(|leaf| leaf.calls(Tid(-5), calls.chunks(3)).unwrap());
        prop_assert_eq!(leaf.tasks_with_calls().collect::<Vec<_>>(), if calls.is_empty() {
            vec![]
        } else {
            vec![Tid(-5)]
        });
        prop_assert_eq!(&all(leaf.calls(Tid(-5), Moment(0))), &calls);
        prop_assert!(all(leaf.calls(Tid(5), Moment(0))).is_empty());
    }
}

/// Calls that nest as a program's do, over several chunks, from any moment on.
#[test]
fn nested_calls() {
    let calls = support::program_calls(200_000, 1);
    let leaf = leaf(|leaf| leaf.calls(Tid(1), [&calls[..5], &calls[5..]]).unwrap());
    assert_eq!(all(leaf.calls(Tid(1), Moment(0))), calls);
    for from in [0, 40_000, 99_999, 199_999] {
        let moment = calls[from].moment;
        let first = calls.partition_point(|call| call.moment < moment);
        assert_eq!(all(leaf.calls(Tid(1), moment)), calls[first..]);
    }
}

#[test]
fn blobs() {
    let big: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let leaf = leaf(|leaf| {
        leaf.blob(7, &big).unwrap();
        leaf.blob(2, b"small").unwrap();
        leaf.blob(9, b"").unwrap();
    });
    assert_eq!(leaf.blobs().collect::<Vec<_>>(), [2, 7]);
    assert!(all(leaf.blob(7)).concat() == big);
    assert_eq!(all(leaf.blob(2)).concat(), b"small");
    assert!(all(leaf.blob(9)).is_empty());
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let page = |page| WrittenPage { page: PageId { owner: Owner(0), page }, words: [1; 8] };
    let encoder = || LeafEncoder::new(1).unwrap();
    assert!(matches!(encoder().written([page(1), page(1)]), Err(Error::Refused { .. })));
    assert!(matches!(encoder().written([page(2), page(1)]), Err(Error::Refused { .. })));
    let mut twice = encoder();
    twice.written([page(1)]).unwrap();
    assert!(matches!(twice.written([page(2)]), Err(Error::Refused { .. })));
    let delta = |words, values| PageDelta {
        page: PageId::default(),
        dropped: false,
        words,
        values,
        children: 1,
    };
    assert!(encoder().memory([delta([0; 8], vec![])]).is_err());
    assert!(encoder().memory([delta([1; 8], vec![1])]).is_err());
    let run = |start, end, count| CodeRun {
        owner: Owner(1),
        start: Address(start),
        end: Address(end),
        count,
        children: 1,
    };
    assert!(encoder().code([run(1, 3, 1), run(2, 4, 2)]).is_err());
    assert!(encoder().code([run(1, 1, 1)]).is_err());
    assert!(encoder().code([run(1, 2, 0)]).is_err());
    let reserved = Count { class: class::LINEAGE, key: 0, count: 1, children: 1 };
    assert!(encoder().keys([reserved]).is_err());
    let later = Lineage { owner: Owner(3), parent: Some((Owner(3), 0)) };
    assert!(encoder().lineages([later]).is_err());
}

#[path = "support/generate.rs"]
mod support;
