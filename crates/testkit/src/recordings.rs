//! Which of the shared recordings this host can replay.

/// Their programs, or the C library for them, execute AVX-512 instructions.
const WITH_AVX512: [&str; 3] = ["float_math_O2", "ls", "true"];

/// Whether this host has every instruction that the shared recording executes; if not, says so.
pub fn can_replay(recording: &str) -> bool {
    let can = !WITH_AVX512.contains(&recording) || has_avx512();
    if !can {
        eprintln!("this host lacks AVX-512: recording {recording} is left out");
    }
    can
}

/// The first of the shared recordings that this host can replay.
pub fn first_to_replay<'a>(recordings: &[&'a str]) -> Option<&'a str> {
    recordings.iter().copied().find(|recording| can_replay(recording))
}

/// What the C library asks for before it uses vectors of 256 bits with masks. The system must have
/// enabled the state, too.
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512vl") && std::is_x86_feature_detected!("avx512bw")
}
