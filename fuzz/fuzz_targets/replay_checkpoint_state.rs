//! `cargo +nightly fuzz run replay_checkpoint_state`; seeds: `Checkpoint::encode_state` of any.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/replay/tests/support/checkpoints.rs"]
mod checkpoints;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let trace = checkpoints::smallest_recording();
    if let Ok(checkpoint) = checkpoints::state(bytes, &trace) {
        // What was read is what is written, if not byte by byte.
        let again = checkpoints::state(&checkpoint.encode_state(), &trace).expect("it is a state");
        assert_eq!(again.digest(), checkpoint.digest());
    }
});
