//! Compares a replay with `memory.jsonl.gz`: registers and hashes of writable pages at samples.

use machine::Space;
use model::{Address, Event, PAGE_SIZE, Tid};
use replay::{LISTED_NAMES, Session, listed_values};
use serde_json::Value;

use super::sha256::Sha256;

/// The page of the preload library's variables: rr swaps task data there lazily.
const THREAD_LOCALS_PAGE: u64 = 0x7000_1000;

/// Replays to each sample; returns how many pages were compared, or what differs.
pub fn compare(name: &str) -> Result<usize, String> {
    let text = super::oracle(name, "memory.jsonl.gz");
    let mut samples: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    samples.sort_by_key(|sample| sample["event"].as_u64());
    let mut session = super::open(name);
    let hash = Sha256::new();
    let mut compared = 0;
    for sample in samples {
        // Not `after_event`: where that is in front of a buffer's flush, rr stops behind it.
        let after = Event(sample["event"].as_u64().expect("event") - 1);
        while session.last_event() < after {
            session.step_event().map_err(|error| format!("{name}: {error}"))?.ok_or("too short")?;
        }
        compared += compare_sample(&session, &sample, &hash)
            .map_err(|text| format!("{name}, after event {after}: {text}"))?;
    }
    Ok(compared)
}

fn compare_sample(session: &Session, sample: &Value, hash: &Sha256) -> Result<usize, String> {
    let thread = sample["thread"].as_str().expect("thread");
    let tid = thread.rsplit('.').next().expect("tid");
    let tid = Tid(i32::from_str_radix(tid, 16).expect("hexadecimal"));
    let registers = session.registers(tid).ok_or("the task is gone")?;
    let vector = session.vector_registers(tid).ok_or("the task is gone")?;
    let values = listed_values(&registers, &vector);
    let mut text = String::new();
    for (name, found) in LISTED_NAMES.iter().zip(values) {
        let expected = sample["regs"][name].as_str().expect("register");
        let expected = u128::from_str_radix(expected, 16).expect("hexadecimal");
        let seen = if *name == "eflags" { !0x1_0100 } else { u128::MAX };
        if expected & seen != found & seen {
            text += &format!(" {name}: expected {expected:x}, found {found:x};");
        }
    }
    let space = session.memory(tid).ok_or("no memory")?;
    let recorder = session.recorder_memory(tid);
    let mut compared = 0;
    for map in sample["maps"].as_array().expect("maps") {
        let start = address(map["start"].as_str().expect("start"));
        let ours =
            start.0 == THREAD_LOCALS_PAGE || recorder.iter().any(|area| area.contains(&start));
        let of_recorder =
            ours || map["name"].as_str().is_some_and(|name| name.starts_with("rr-shared"));
        let Some(pages) = map["pages"].as_object().filter(|_| !of_recorder) else { continue };
        let mut at = start;
        let end = address(map["end"].as_str().expect("end"));
        while at < end {
            let expected = pages.get(&format!("{:x}", at.0)).and_then(Value::as_str);
            text += &compare_page(space, at, expected, hash);
            compared += 1;
            at = at + PAGE_SIZE;
        }
    }
    if text.is_empty() { Ok(compared) } else { Err(text) }
}

/// `expected` is absent for a page of zeroes.
fn compare_page(space: &Space, at: Address, expected: Option<&str>, hash: &Sha256) -> String {
    let mut bytes = [0; PAGE_SIZE as usize];
    if let Err(error) = space.read(at, &mut bytes) {
        return format!(" page {at}: {error};");
    }
    let zero = bytes.iter().all(|&byte| byte == 0);
    let found = hash.hex(&bytes);
    match expected {
        None if zero => String::new(),
        Some(expected) if !zero && found.starts_with(expected) => String::new(),
        Some(expected) if hash.hex(&with_written_vectors(&bytes)).starts_with(expected) => {
            String::new()
        }
        _ => format!(" page {at} differs;"),
    }
}

/// The page as the recording processor leaves it in areas of XSAVEC (from lazy binding) when all
/// of XMM0 to 15 are zero: it stores the zeroes, and MXCSR, once the registers have been written at all
/// (XSTATE_BV 2), the machine stores a component only when its value is not the initial one
/// (XSTATE_BV 0). Either is right (SDM vol. 1, 13.10: XINUSE is up to the processor).
fn with_written_vectors(page: &[u8]) -> Vec<u8> {
    const COMPACTED: u64 = 1 << 63;
    let mut page = page.to_vec();
    for area in (0..page.len() - 576).step_by(64) {
        let word = |at: usize| {
            u64::from_le_bytes(page[area + at..area + at + 8].try_into().expect("eight bytes"))
        };
        if word(512) == 0 && word(520) & COMPACTED != 0 && word(520) & !COMPACTED < 1 << 20 {
            page[area + 512] = 2;
            page[area + 24..area + 28].copy_from_slice(&0x1f80_u32.to_le_bytes());
            page[area + 28..area + 32].copy_from_slice(&0x2_ffff_u32.to_le_bytes());
            page[area + 160..area + 416].fill(0);
        }
    }
    page
}

fn address(text: &str) -> Address {
    Address(u64::from_str_radix(text, 16).expect("hexadecimal"))
}
