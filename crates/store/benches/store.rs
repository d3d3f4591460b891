//! `cargo bench -p store -- [LEAVES] [FILE]...`: what columns cost, and look-ups in a tree of so
//! many small leaves. Each FILE holds words of eight bytes, from memory, to be stored as pages.

#[path = "../tests/support/generate.rs"]
mod generate;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use generate::Random;
use model::{Address, Moment, Tid};
use store::*;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let leaves = arguments.first().and_then(|leaves| leaves.parse().ok()).unwrap_or(20_000);
    println!("section             bytes/item   encode MB/s   decode MB/s   (of items in memory)");
    let mut random = Random(1);
    let pages: Vec<PageId> = pages(&mut random, 4000).collect();
    let written: Vec<WrittenPage> =
        pages.iter().map(|page| WrittenPage { page: *page, words: words(&mut random) }).collect();
    let lines = written.iter().flat_map(|page| page.words).flat_map(u64::to_le_bytes);
    let lines = lines.filter(|line| *line != 0).count();
    measure(
        "written lines",
        lines,
        lines * 16,
        |leaf| leaf.written(written.iter().copied()),
        |leaf| leaf.written().unwrap().map(Result::unwrap).count(),
    );
    let runs = runs(&mut random, 30_000);
    measure(
        "code runs",
        runs.len(),
        runs.len() * 32,
        |leaf| leaf.code(runs.iter().copied()),
        |l| l.code().unwrap().map(Result::unwrap).count(),
    );
    let calls = generate::program_calls(300_000, 3);
    let size = calls.len() * size_of::<Call>();
    measure(
        "calls",
        calls.len(),
        size,
        |leaf| leaf.calls(Tid(1), [&calls[..]]),
        |leaf| leaf.calls(Tid(1), Moment(0)).unwrap().map(Result::unwrap).count(),
    );
    for file in arguments.iter().skip(1) {
        let bytes = std::fs::read(file).unwrap();
        let values: Vec<u64> =
            bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
        let deltas: Vec<PageDelta> = (0..)
            .zip(values.chunks(64))
            .map(|(number, values)| {
                let mut words = [0; 8];
                words[number as usize % 8] = u64::MAX >> (64 - values.len());
                let page = PageId { owner: Owner(0), page: number };
                PageDelta { page, dropped: false, words, values: values.to_vec(), children: 1 }
            })
            .collect();
        let name = std::path::Path::new(file).file_name().unwrap().to_string_lossy();
        measure(
            &name,
            values.len(),
            bytes.len(),
            |leaf| leaf.memory(deltas.iter().cloned()),
            |l| l.memory().unwrap().map(Result::unwrap).map(|d| d.values.len()).sum(),
        );
    }
    tree(leaves);
}

fn measure(
    name: &str,
    items: usize,
    bytes: usize,
    encode: impl Fn(&mut LeafEncoder) -> Result<(), Error>,
    decode: impl Fn(&Leaf) -> usize,
) {
    let mut best = [Duration::MAX; 2];
    let mut stored = 0;
    for _ in 0..5 {
        let start = Instant::now();
        let mut encoder = LeafEncoder::new(3).unwrap();
        encode(&mut encoder).unwrap();
        let encoded = encoder.finish().unwrap();
        best[0] = best[0].min(start.elapsed());
        stored = encoded.as_bytes().len();
        let leaf = encoded.read().unwrap();
        let start = Instant::now();
        assert_eq!(decode(&leaf), items);
        best[1] = best[1].min(start.elapsed());
    }
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name:20} {:9.3} {:13.0} {:13.0}",
        stored as f64 / items as f64,
        rate(best[0]),
        rate(best[1])
    );
}

/// Pages in clusters, as heaps and stacks are.
fn pages(random: &mut Random, count: u64) -> impl Iterator<Item = PageId> {
    let mut page = 0x5_5555_5000;
    (0..count).map(move |_| {
        page += 1 + if random.one_in(10) { random.below(5000) } else { 0 };
        PageId { owner: Owner(1), page }
    })
}

/// Fields of objects: some words here and there, some runs.
fn words(random: &mut Random) -> WordMask {
    let mut words = [0; 8];
    let step = 2 + random.below(6);
    for word in (random.below(8)..512).step_by(step as usize) {
        if !random.one_in(3) {
            words[word as usize / 64] |= (1 + 2 * random.below(2)) << (word % 64);
        }
    }
    words
}

fn runs(random: &mut Random, count: usize) -> Vec<CodeRun> {
    let mut at = 0x5555_5555_0000;
    let mut times = 1;
    (0..count)
        .map(|_| {
            at += if random.one_in(3) { 16 * random.below(200) + 1 } else { 1 + random.below(12) };
            let start = Address(at);
            at += 1 + random.below(60);
            if random.one_in(2) {
                times = 1 + random.magnitude(0, 14);
            }
            CodeRun { owner: Owner(1), start, end: Address(at), count: times, children: 1 }
        })
        .collect()
}

/// What a small segment of a program leaves: mostly the same hot places, and some that move on.
fn small_leaf(number: u64, program: &[CodeRun]) -> EncodedLeaf {
    let mut random = Random(number);
    let mut leaf = LeafEncoder::new(1).unwrap();
    let front = 100 + number / 4;
    let touched: std::collections::BTreeSet<u64> = (0..12)
        .map(|n| if n < 4 { n } else { front.saturating_sub(random.magnitude(0, 16)) })
        .collect();
    let page_of = |page: u64| PageId { owner: Owner(1), page };
    let masks: BTreeMap<u64, WordMask> = touched
        .iter()
        .map(|page| {
            let mut mask = [0; 8];
            for _ in 0..8 {
                let word = random.below(512);
                mask[word as usize / 64] |= 1 << (word % 64);
            }
            (*page, mask)
        })
        .collect();
    leaf.written(masks.iter().map(|(p, words)| WrittenPage { page: page_of(*p), words: *words }))
        .unwrap();
    let deltas = masks.iter().map(|(page, words)| {
        let count: u32 = words.iter().map(|bits| bits.count_ones()).sum();
        let values = (0..count).map(|_| 0x5555_0000 + random.below(1 << 20)).collect();
        PageDelta { page: page_of(*page), dropped: false, words: *words, values, children: 1 }
    });
    leaf.memory(deltas).unwrap();
    // Hot loops, and parts of the program that come and go.
    let hot = program.iter().take(24);
    let start = 24 + random.magnitude(1, 11) as usize;
    let executed = hot.chain(&program[start..start + 6]);
    let executed = executed.map(|run| CodeRun { count: 1 + random.magnitude(0, 14), ..*run });
    leaf.code(executed).unwrap();
    let functions: BTreeMap<u64, u64> = (0..10).map(|_| (random.magnitude(1, 16), 3)).collect();
    leaf.called(functions.iter().map(|(&key, &count)| Count { class: 1, key, count, children: 1 }))
        .unwrap();
    leaf.depths([(Tid(1), 5 + random.below(20) as i64)]).unwrap();
    leaf.finish().unwrap()
}

fn tree(leaves: u64) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("db");
    let mut writer = Writer::create(&directory, b"", BTreeMap::new(), Options::default()).unwrap();
    let program = runs(&mut Random(5), 2000);
    let (mut below, mut encoding) = (0, Duration::ZERO);
    let start = Instant::now();
    for number in 0..leaves {
        let encode = Instant::now();
        let leaf = small_leaf(number, &program);
        encoding += encode.elapsed();
        below += leaf.as_bytes().len() as u64;
        writer.append_leaf(Moment((number + 1) << 20), &leaf).unwrap();
    }
    writer.finish().unwrap();
    let building = start.elapsed() - encoding;
    let reader = Reader::open(&directory, 256 << 20).unwrap();
    let bytes: u64 = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("volume"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    println!(
        "{leaves} leaves of {} bytes; nodes are {:.0} % of that; {:.0} us a leaf to append",
        below / leaves,
        (bytes - below) as f64 * 100.0 / below as f64,
        building.as_secs_f64() * 1e6 / leaves as f64
    );
    let mut sizes: BTreeMap<(&str, u8), u64> = BTreeMap::new();
    for level in 0..16 {
        let numbers = (0..).map_while(|number| reader.section_sizes(level, number).unwrap());
        for SectionSize { name, bytes, .. } in numbers.flatten() {
            *sizes.entry((name, level)).or_default() += bytes;
        }
    }
    for ((name, level), bytes) in sizes {
        println!("{name:20} level {level}: {:8.1} bytes a leaf", bytes as f64 / leaves as f64);
    }
    let mut random = Random(9);
    let tree = Tree::new(&reader);
    let view = MemoryView::new(&reader);
    let mut look_up = |name: &str, ask: &mut dyn FnMut(&mut Random, u64)| {
        for state in ["first", "warm"] {
            let start = Instant::now();
            let count = 2000;
            for _ in 0..count {
                let border = random.below(leaves + 1);
                ask(&mut random, border);
            }
            let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(count);
            println!("{name:28} {state}: {each:8.1} us");
        }
    };
    let word = |random: &mut Random| {
        let word = random.below(120) * 512 + random.below(512);
        Key::Written { owner: Owner(1), bytes: word * 8..word * 8 + 8 }
    };
    look_up("last write of a word", &mut |random, border| {
        tree.last_before(&word(random), border).unwrap();
    });
    look_up("next write of a word", &mut |random, border| {
        tree.first_from(&word(random), border).unwrap();
    });
    look_up("last call of a function", &mut |random, border| {
        let target = Address(random.below(1 << 15));
        let key = Key::Counted(Counted::Called { owner: Owner(1), target });
        tree.last_before(&key, border).unwrap();
    });
    look_up("calls of a function before", &mut |random, border| {
        let target = Address(random.below(1 << 15));
        tree.count(Counted::Called { owner: Owner(1), target }, 0..border).unwrap();
    });
    look_up("n-th call of a function", &mut |random, _| {
        let target = Address(random.below(1 << 5));
        let n = random.below(leaves / 20);
        tree.nth(Counted::Called { owner: Owner(1), target }, n).unwrap();
    });
    look_up("end of a frame", &mut |random, border| {
        let limit = 5 + random.below(3) as i64;
        tree.first_from(&Key::Shallower { task: Tid(1), limit }, border).unwrap();
    });
    look_up("page at a border", &mut |random, border| {
        view.page(PageId { owner: Owner(1), page: random.below(200) }, border).unwrap();
    });
    let start = Instant::now();
    let pages = view.pages(Owner(1), leaves / 2).unwrap().map(Result::unwrap).count();
    println!("all {pages} pages at a border: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
