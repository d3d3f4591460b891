//! `disassembly`: the code of the function at the focus, whether it ran or not.

use iced_x86::{Decoder, DecoderOptions};
use model::Address;
use serde::Serialize;
use store::{Counted, Owner, Tree};

use crate::ask::{Asked, Flow};
use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::frames::{Stack, spot};
use crate::protocol::Hex;
use crate::questions::state::text;

/// Bytes of code that are read at most.
const CODE_MAX: u64 = 1 << 20;

#[derive(Serialize)]
struct Row {
    address: Hex,
    bytes: String,
    text: String,
    line: Option<u32>,
    /// Executions in the run.
    count: String,
    current: bool,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let stack = Stack::at(engine, here)?;
    let frame = asked.request.focus.frame.and_then(|id| stack.find(id)).unwrap_or(0);
    let frame = stack.frames[frame];
    let at = match asked.optional::<String>("address")? {
        None => frame.lookup(),
        Some(text) => Hex::parse(&text)
            .map(|hex| Address(hex.0))
            .ok_or_else(|| Failure::new(Code::BadRequest, format!("`{text}` is no address")))?,
    };
    let spot = spot(
        engine,
        here,
        stack.space,
        &crate::frames::Frame { pc: at, interrupted: true, ..frame },
    );
    let no_code = || Failure::new(Code::NoCode, format!("no function is known at {at}"));
    let loaded = spot.loaded.as_ref().ok_or_else(no_code)?;
    let link = loaded.link(at);
    let symbols = loaded.module.symbols().ok_or_else(no_code)?;
    let outermost = spot.code.activations.last();
    let ranges = match outermost {
        Some(activation) => activation.ranges.clone(),
        None => symbols.symbol_at(link).map(|symbol| symbol.range).into_iter().collect(),
    };
    let range = ranges.iter().find(|range| range.contains(&link)).ok_or_else(no_code)?;
    let length = (range.end.0 - range.start.0).min(CODE_MAX);
    let start = loaded.run(range.start);
    let mut bytes = vec![0; length as usize];
    let memory = engine.at(here.moment)?.memory(here.tid);
    if memory.is_none_or(|memory| memory.read(start, &mut bytes).is_err()) {
        let what = format!("the code at {start} is not mapped at moment {}", here.moment);
        return Err(Failure::new(Code::NotAvailable, what));
    }
    let leaves = 0..engine.db.reader.leaves();
    let tree = Tree::new(&engine.db.reader);
    let decoder = Decoder::with_ip(64, &bytes, start.0, DecoderOptions::NONE);
    for instruction in decoder.into_iter().skip(asked.offset()?) {
        let address = Address(instruction.ip());
        let from = (address - start) as usize;
        let code = &bytes[from..from + instruction.len()];
        let counted = Counted::Executed { owner: Owner(stack.space), address };
        let row = Row {
            address: address.into(),
            bytes: code.iter().map(|byte| format!("{byte:02x}")).collect(),
            text: text(&instruction),
            line: symbols.line_at(loaded.link(address)).map(|line| line.line),
            count: tree.count(counted, leaves.clone())?.to_string(),
            current: address == frame.pc && frame.interrupted,
        };
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}
