//! Packed Cap'n Proto messages, one after the other (rr-replay 1.3).
//!
//! The unpacking is ours and not the `capnp` crate's because that one allocates whatever a
//! message's first words claim. Reading fields from the unpacked words is the crate's work.

use std::ops::Range;

use capnp::Word;
use capnp::message::{Reader, ReaderOptions, ReaderSegments};

use super::source::Input;
use crate::Error;

/// 128 MiB: a frame whose hole lists are as long has written 64 GiB of memory at least.
const MESSAGE_WORDS_MAX: usize = 16 << 20;
/// The limit of Cap'n Proto's own readers.
const SEGMENTS_MAX: usize = 512;
/// A message's memory is claimed in steps of this, so that its data must really be there.
const GROWTH_WORDS: usize = 8 << 10;
/// Scratch memory that is kept from message to message.
const KEPT_WORDS: usize = 128 << 10;
const ZERO: Word = capnp::word(0, 0, 0, 0, 0, 0, 0, 0);

/// Reads messages from an input.
#[derive(Debug)]
pub(crate) struct Messages<I> {
    pub(crate) input: I,
    /// Words of a run of zeroes, or of literal words, that were announced but not unpacked yet.
    zero_words: usize,
    literal_words: usize,
    words: Words,
    segments: Vec<Range<usize>>,
}

struct Words(Vec<Word>);

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} words", self.0.len())
    }
}

/// One unpacked message.
pub(crate) struct Message<'a> {
    pub(crate) reader: Reader<Segments<'a>>,
    /// No list of an honest message has more elements than its words (twice, for `Int32`).
    pub(crate) words: usize,
}

pub(crate) struct Segments<'a> {
    bytes: &'a [u8],
    /// In bytes.
    ranges: &'a [Range<usize>],
}

impl ReaderSegments for Segments<'_> {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        let range = self.ranges.get(index as usize)?;
        self.bytes.get(range.clone())
    }

    fn len(&self) -> usize {
        self.ranges.len()
    }
}

impl<I: Input> Messages<I> {
    pub(crate) fn new(input: I) -> Messages<I> {
        Messages {
            input,
            zero_words: 0,
            literal_words: 0,
            words: Words(Vec::new()),
            segments: Vec::new(),
        }
    }

    /// Decodes the next message; `None` at the end of the input.
    pub(crate) fn next<T>(
        &mut self,
        decode: impl FnOnce(&Message<'_>) -> capnp::Result<T>,
    ) -> Result<Option<T>, Error> {
        let start = self.input.offset();
        if self.input.fill()?.is_empty() {
            return Ok(None);
        }
        let words = self.unpack_message(start)?;
        if self.zero_words > 0 || self.literal_words > 0 {
            return Err(self.input.source().corrupt(start, "a run of words crosses messages"));
        }
        let bytes = &Word::words_to_bytes(&self.words.0)[..words * 8];
        let mut options = ReaderOptions::new();
        // An honest reader visits a word once; lists that share memory would multiply it.
        options.traversal_limit_in_words(Some(2 * words + 1024));
        // Frame, list of writes, write, list of holes: four; some more for later versions.
        options.nesting_limit(16);
        let reader = Reader::new(Segments { bytes, ranges: &self.segments }, options);
        let result = decode(&Message { reader, words });
        self.words.0.truncate(KEPT_WORDS);
        self.words.0.shrink_to(KEPT_WORDS);
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.input.source().corrupt(start, error.to_string())),
        }
    }

    /// Forgets announced runs: after a seek.
    pub(crate) fn reset(&mut self) {
        self.zero_words = 0;
        self.literal_words = 0;
    }

    /// Unpacks the segment table and the segments; returns the number of words of all segments.
    fn unpack_message(&mut self, start: u64) -> Result<usize, Error> {
        let mut word = [0; 8];
        self.unpack(&mut word, start)?;
        let [count, first] = halves(word);
        let count = (count as usize).saturating_add(1);
        if count > SEGMENTS_MAX {
            let reason = format!("a message of {count} segments (at most {SEGMENTS_MAX})");
            return Err(self.input.source().corrupt(start, reason));
        }
        self.segments.clear();
        let mut total = 0;
        self.push_segment(&mut total, first, start)?;
        while self.segments.len() < count {
            self.unpack(&mut word, start)?;
            let [one, other] = halves(word);
            self.push_segment(&mut total, one, start)?;
            if self.segments.len() < count {
                self.push_segment(&mut total, other, start)?;
            }
        }
        let mut words = std::mem::take(&mut self.words.0);
        let mut done = 0;
        while done < total {
            let end = total.min(done + GROWTH_WORDS);
            if words.len() < end {
                words.resize(end, ZERO);
            }
            self.unpack(Word::words_to_bytes_mut(&mut words[done..end]), start)?;
            done = end;
        }
        self.words.0 = words;
        Ok(total)
    }

    fn push_segment(&mut self, total: &mut usize, words: u32, start: u64) -> Result<(), Error> {
        let end = total.saturating_add(words as usize);
        if end > MESSAGE_WORDS_MAX {
            let (size, limit) = (end as u64 * 8, MESSAGE_WORDS_MAX as u64 * 8);
            return Err(self.input.source().too_large(start, "message", size, limit));
        }
        self.segments.push(*total * 8..end * 8);
        *total = end;
        Ok(())
    }

    /// Fills `output`, whole words, from the packed input.
    fn unpack(&mut self, output: &mut [u8], start: u64) -> Result<(), Error> {
        let mut done = 0;
        while done < output.len() {
            let rest = &mut output[done..];
            if self.zero_words > 0 {
                let words = self.zero_words.min(rest.len() / 8);
                rest[..words * 8].fill(0);
                self.zero_words -= words;
                done += words * 8;
            } else if self.literal_words > 0 {
                let words = self.literal_words.min(rest.len() / 8);
                self.copy(&mut rest[..words * 8], start)?;
                self.literal_words -= words;
                done += words * 8;
            } else {
                self.unpack_word(&mut rest[..8], start)?;
                done += 8;
            }
        }
        Ok(())
    }

    /// One tag byte, the bytes of a word that are not zero, and perhaps the length of a run.
    fn unpack_word(&mut self, word: &mut [u8], start: u64) -> Result<(), Error> {
        let input = self.input.fill()?;
        let Some(longest) = input.first_chunk::<10>() else {
            return self.unpack_word_slowly(word, start);
        };
        let tag = longest[0];
        let mut used = 1;
        for (bit, byte) in word.iter_mut().enumerate() {
            let present = tag >> bit & 1;
            *byte = longest[used] & 0u8.wrapping_sub(present);
            used += usize::from(present);
        }
        if tag == 0 {
            self.zero_words = longest[1].into();
            used = 2;
        } else if tag == 0xff {
            self.literal_words = longest[9].into();
            used = 10;
        }
        self.input.consume(used);
        Ok(())
    }

    /// The same at the border of two blocks.
    fn unpack_word_slowly(&mut self, word: &mut [u8], start: u64) -> Result<(), Error> {
        let tag = self.byte(start)?;
        for (bit, byte) in word.iter_mut().enumerate() {
            *byte = if tag >> bit & 1 != 0 { self.byte(start)? } else { 0 };
        }
        if tag == 0 {
            self.zero_words = self.byte(start)?.into();
        } else if tag == 0xff {
            self.literal_words = self.byte(start)?.into();
        }
        Ok(())
    }

    fn byte(&mut self, start: u64) -> Result<u8, Error> {
        let mut byte = [0];
        self.copy(&mut byte, start)?;
        Ok(byte[0])
    }

    fn copy(&mut self, mut output: &mut [u8], start: u64) -> Result<(), Error> {
        while !output.is_empty() {
            let input = self.input.fill()?;
            if input.is_empty() {
                let reason = "the stream ends inside a message";
                return Err(self.input.source().truncated(start, reason));
            }
            let length = input.len().min(output.len());
            output[..length].copy_from_slice(&input[..length]);
            self.input.consume(length);
            output = &mut output[length..];
        }
        Ok(())
    }
}

fn halves(word: [u8; 8]) -> [u32; 2] {
    let [a0, a1, a2, a3, b0, b1, b2, b3] = word;
    [u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([b0, b1, b2, b3])]
}
