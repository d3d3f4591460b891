//! From Cap'n Proto messages to our records. Whatever is not understood is an error.

mod frame;
mod header;
mod records;

use capnp::{Error, NotInSchema};
use model::Event;

pub(crate) use frame::frame;
pub(crate) use header::header;

use crate::Arch;
use crate::stream::Message;
use crate::trace_capnp as schema;

/// A record of a stream whose records belong to frames. Implemented by `MMap` and `TaskEvent`.
pub trait Record: Sized {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn decode(message: &Message<'_>) -> capnp::Result<Self>;
    fn event(&self) -> Event;
}

/// The path of a value and why it cannot be.
fn invalid(reason: impl Into<String>) -> Error {
    Error::failed(reason.into())
}

fn arch(value: Result<schema::Arch, NotInSchema>) -> capnp::Result<Arch> {
    Ok(match value? {
        schema::Arch::X86 => Arch::X86,
        schema::Arch::X8664 => Arch::X8664,
        schema::Arch::Aarch64 => Arch::Aarch64,
    })
}

fn frame_time(value: i64) -> capnp::Result<Event> {
    let time = u64::try_from(value).map_err(|_| invalid(format!("frame time {value}")))?;
    Ok(Event(time))
}

/// Lists of empty structs can claim any length in a few bytes; no honest list is as long as
/// the message in words (`per_word`: elements that fit one word).
fn check_list(
    what: &str,
    length: u32,
    message: &Message<'_>,
    per_word: usize,
) -> capnp::Result<()> {
    let limit = message.words.saturating_mul(per_word);
    if length as usize > limit {
        return Err(invalid(format!("a list of {length} {what} in {} words", message.words)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
