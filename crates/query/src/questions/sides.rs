//! Rows of things of which all are known, to both sides of a moment.

use model::Moment;
use serde::Serialize;

use crate::ask::{Asked, Side};
use crate::engine::Engine;
use crate::failure::Failure;

/// Rows that are made before they go out, where they come backwards: going back in the recording
/// costs more than going on.
const PIECE: usize = 64;

/// Sends rows of things that are in order of time, the nearest to a moment first on each side.
/// What is at the moment comes behind it.
pub fn send<T, R: Serialize>(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    focus: Moment,
    all: &[T],
    moment: impl Fn(&T) -> Moment,
    mut row: impl FnMut(&mut Engine<'_>, &T) -> Result<R, Failure>,
) -> Result<(), Failure> {
    let middle = asked.middle(focus)?;
    let (before, after) = all.split_at(all.partition_point(|thing| moment(thing) < middle));
    for thing in after {
        if asked.is_interrupted() {
            break;
        }
        if !asked.wants(Side::After) {
            let _ = asked.row_at(Side::After, moment(thing), &());
            break;
        }
        let row = row(engine, thing)?;
        let _ = asked.row_at(Side::After, moment(thing), &row);
    }
    let mut rest = before;
    while !rest.is_empty() && !asked.is_interrupted() {
        if !asked.wants(Side::Before) {
            let _ = asked.row_at(Side::Before, middle, &());
            break;
        }
        let count = asked.room(Side::Before).min(PIECE).min(rest.len());
        let (others, piece) = rest.split_at(rest.len() - count);
        let mut rows = Vec::new();
        for thing in piece {
            if asked.is_interrupted() {
                return Ok(());
            }
            rows.push((moment(thing), row(engine, thing)?));
        }
        for (moment, row) in rows.into_iter().rev() {
            let _ = asked.row_at(Side::Before, moment, &row);
        }
        rest = others;
    }
    (asked.matched, asked.exact) = (all.len() as u64, true);
    Ok(())
}
