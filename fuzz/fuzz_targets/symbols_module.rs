//! `cargo +nightly fuzz run symbols_module`; seeds: small programs with debug information.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/symbols/tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hostile::ask_everything(bytes);
});
