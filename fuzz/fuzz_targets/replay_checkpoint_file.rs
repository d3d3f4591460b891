//! `cargo +nightly fuzz run replay_checkpoint_file`; seeds: what `Parts` has of any checkpoint.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/replay/tests/support/checkpoints.rs"]
mod checkpoints;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let trace = checkpoints::smallest_recording();
    _ = checkpoints::file(bytes, &trace);
    _ = checkpoints::file(&checkpoints::Parts::any(bytes).file(&trace), &trace);
});
