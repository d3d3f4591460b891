//! `cargo +nightly fuzz run rr_trace_header`; seeds: `version` of any recording.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/rr-trace/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = parsers::header(bytes);
});
