//! A processor's state as it is stored: what means nothing is left out, so that equal states
//! are equal bytes.

use machine::{Cpu, VectorState};
use model::Address;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
struct Stored {
    general: [u64; 16],
    rip: Address,
    rflags: u64,
    fs_base: u64,
    gs_base: u64,
    instructions: u64,
    ticks: u64,
    mxcsr: u32,
    components: Vec<Component>,
}

/// A component of the XSAVE image, by its number in XCR0.
#[derive(Serialize, Deserialize)]
struct Component {
    number: u32,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

pub fn serialize<S: Serializer>(cpu: &Cpu, serializer: S) -> Result<S::Ok, S::Error> {
    let Cpu { general, rip, rflags, fs_base, gs_base, vector, instructions, ticks } = cpu;
    let parts = vector.components().into_iter();
    let stored = Stored {
        general: *general,
        rip: *rip,
        rflags: *rflags,
        fs_base: *fs_base,
        gs_base: *gs_base,
        instructions: *instructions,
        ticks: *ticks,
        mxcsr: vector.mxcsr(),
        components: parts.map(|(number, bytes)| Component { number, bytes }).collect(),
    };
    stored.serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cpu, D::Error> {
    let stored = Stored::deserialize(deserializer)?;
    let parts = stored.components.into_iter().map(|part| (part.number, part.bytes));
    let vector = VectorState::from_components(stored.mxcsr, &parts.collect::<Vec<_>>());
    let vector = vector.ok_or_else(|| D::Error::custom("vector state of another processor"))?;
    Ok(Cpu {
        general: stored.general,
        rip: stored.rip,
        rflags: stored.rflags,
        fs_base: stored.fs_base,
        gs_base: stored.gs_base,
        vector,
        instructions: stored.instructions,
        ticks: stored.ticks,
    })
}
