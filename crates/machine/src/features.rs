//! What this host's processor can do.

use iced_x86::{CpuidFeature, Instruction};

use crate::emulate::host::host;

/// Components that XSAVE and XRSTOR carry here: x87, SSE, AVX, AVX-512. Not PKRU, which is the
/// host's, and not AMX tiles, which need permission and room.
pub fn xsave_mask() -> u64 {
    host().images.xcr0 & 0xe7
}

/// Whether the processor has the features that an instruction needs, to tell an instruction that
/// is invalid everywhere from one that another host would have executed; unknown ones count as had.
pub fn host_has(instruction: &Instruction) -> bool {
    instruction.cpuid_features().iter().all(|feature| has(*feature))
}

fn has(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    macro_rules! detected {
        ($name:tt) => {
            std::is_x86_feature_detected!($name)
        };
    }
    match feature {
        F::SSE3 => detected!("sse3"),
        F::SSSE3 => detected!("ssse3"),
        F::SSE4_1 => detected!("sse4.1"),
        F::SSE4_2 => detected!("sse4.2"),
        F::SSE4A => detected!("sse4a"),
        F::POPCNT => detected!("popcnt"),
        F::LZCNT => detected!("lzcnt"),
        F::MOVBE => detected!("movbe"),
        F::AES => detected!("aes"),
        F::PCLMULQDQ => detected!("pclmulqdq"),
        F::SHA => detected!("sha"),
        F::AVX => detected!("avx"),
        F::AVX2 => detected!("avx2"),
        F::FMA => detected!("fma"),
        F::F16C => detected!("f16c"),
        F::BMI1 => detected!("bmi1"),
        F::BMI2 => detected!("bmi2"),
        F::ADX => detected!("adx"),
        F::GFNI => detected!("gfni"),
        F::VAES => detected!("vaes"),
        F::VPCLMULQDQ => detected!("vpclmulqdq"),
        F::AVX512F => detected!("avx512f"),
        F::AVX512BW => detected!("avx512bw"),
        F::AVX512DQ => detected!("avx512dq"),
        F::AVX512VL => detected!("avx512vl"),
        F::AVX512CD => detected!("avx512cd"),
        F::AVX512_VBMI => detected!("avx512vbmi"),
        F::AVX512_VBMI2 => detected!("avx512vbmi2"),
        F::AVX512_VNNI => detected!("avx512vnni"),
        F::AVX512_BITALG => detected!("avx512bitalg"),
        F::AVX512_IFMA => detected!("avx512ifma"),
        F::AVX512_BF16 => detected!("avx512bf16"),
        F::AVX512_VPOPCNTDQ => detected!("avx512vpopcntdq"),
        F::AVX512_FP16 => detected!("avx512fp16"),
        F::AVX_VNNI => detected!("avxvnni"),
        F::CMPXCHG16B => detected!("cmpxchg16b"),
        F::TBM => detected!("tbm"),
        F::XOP | F::FMA4 | F::D3NOW | F::D3NOWEXT | F::LWP | F::MPX => false,
        // Processors have it that do not say so, under a hypervisor: this is asked when it failed.
        F::PTWRITE => false,
        F::AMX_TILE | F::AMX_INT8 | F::AMX_BF16 | F::AMX_FP16 => false,
        _ => true,
    }
}
