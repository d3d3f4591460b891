//! `cargo +nightly fuzz run store_leaf`; seeds: what `EncodedLeaf::as_bytes` gives.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/store/tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    hostile::repair(&mut bytes);
    hostile::read(&bytes);
});
