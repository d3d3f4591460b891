//! Broken and hostile files: no panic, no endless work, and what is not broken still answers.

#[path = "support/hostile.rs"]
mod hostile;
mod support;

use std::time::{Duration, Instant};

use object::{Object as _, ObjectSection as _};
use symbols::{LinkAddress, NameKind};

/// Xorshift: the same sequence every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Changes some bytes of sections that are parsed here, or of the file's tables.
fn damage(bytes: &mut [u8], places: &[std::ops::Range<usize>], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let place = places[random.below(places.len())].clone();
        let at = place.start + random.below(place.len());
        let interesting = [0, 1, 0x7f, 0x80, 0xff, random.below(256) as u8];
        let length = [1, 1, 1, 2, 4, 8][random.below(6)];
        let value = interesting[random.below(interesting.len())];
        for byte in bytes.iter_mut().skip(at).take(length) {
            *byte = value;
        }
    }
}

fn places(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let file = object::File::parse(bytes).unwrap();
    let mut places = vec![0..64, bytes.len() - 64 * 30..bytes.len()];
    for section in file.sections() {
        let name = section.name().unwrap();
        let parsed = name.starts_with(".debug") || name.starts_with(".eh_frame");
        if (parsed || name.contains("sym") || name.contains("str"))
            && let Some((start, length)) = section.file_range()
            && length > 0
        {
            places.push(start as usize..(start + length) as usize);
        }
    }
    places
}

/// As long as style says that a fuzz target runs in tests: a second, over a few programs.
#[test]
fn damaged_programs() {
    let programs = [
        support::c(&["-O2", "-gdwarf-5"]),
        support::c(&[
            "-O0",
            "-gdwarf-4",
            "-fdebug-types-section",
            "-Wl,--compress-debug-sections=zlib",
        ]),
        support::cpp(&["-O1", "-gdwarf-5"]),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let originals: Vec<_> = programs
        .iter()
        .map(|program| {
            let bytes = std::fs::read(program.program()).unwrap();
            let places = places(&bytes);
            (bytes, places)
        })
        .collect();
    for (bytes, _) in &originals {
        hostile::ask_everything(bytes);
    }
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let (original, places) = &originals[random.below(originals.len())];
        let mut bytes = original.clone();
        damage(&mut bytes, places, &mut random);
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        hostile::ask_everything(&bytes);
        rounds += 1;
    }
    assert!(rounds > 3);
}

/// One broken unit of two: the other still answers, and the trouble has a place.
#[test]
fn damage_stays_where_it_is() {
    let program = support::c(&["-O0", "-gdwarf-5"]);
    let mut bytes = std::fs::read(program.program()).unwrap();
    let whole = support::load(&program.program());
    let main = whole.symbols_named("main")[0].range.start;
    let measure_all = whole.symbols_named("measure_all")[0].range.start;
    let (start, second) = {
        let file = object::File::parse(&*bytes).unwrap();
        let (start, _) = file.section_by_name(".debug_info").unwrap().file_range().unwrap();
        let length = u32::from_le_bytes(bytes[start as usize..][..4].try_into().unwrap());
        (start as usize, start as usize + length as usize + 4)
    };
    // The abbreviations of the first unit are somewhere else.
    bytes[start + 8..start + 12].copy_from_slice(&0x00ff_ffffu32.to_le_bytes());
    assert!(second < bytes.len());
    std::fs::write(program.program(), &bytes).unwrap();
    let module = support::load(&program.program());
    assert!(module.activations(main).is_empty());
    assert_eq!(module.activations(measure_all)[0].function.full_name, "measure_all");
    assert_eq!(module.line_at(measure_all).unwrap().line, 10);
    assert_eq!(module.symbol_at(main).unwrap().name, "main");
    let troubles = module.troubles();
    assert!(troubles[0].place.contains("unit 0x0"), "{troubles:?}");
    assert_eq!(module.things_named("total_measured", &[NameKind::Variable]).len(), 1);
    assert_eq!(module.behind_prologue(LinkAddress(1)), None);
}
