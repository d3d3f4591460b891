//! `cargo +nightly fuzz run rr_trace_data`; seeds: `data` of any
//! recording, and what `cargo run -p rr-trace --example fuzz_seeds` makes of it.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/rr-trace/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    _ = parsers::data(bytes);
    _ = parsers::data(&parsers::stored(bytes));
});
