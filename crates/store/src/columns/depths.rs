//! The least call depth of each task.

use model::Tid;

use super::keys::{self, decode_children, encode_children};
use crate::bytes::{join, put_varint, split, unzigzag, zigzag};
use crate::error::Malformed;
use crate::items::Depths;
use crate::section::{Codec, Key};

#[derive(Debug)]
pub struct LeastDepths;

impl Codec for LeastDepths {
    type Item = Depths;

    /// Tasks in order of their numbers taken as unsigned.
    fn key(item: &Depths) -> Key {
        (0, u64::from(item.task.0 as u32))
    }

    fn size(item: &Depths) -> usize {
        4 + item.depths.len()
    }

    fn check(before: Option<&Depths>, item: &Depths) -> Result<(), &'static str> {
        if before.is_some_and(|before| Self::key(before) >= Self::key(item)) {
            return Err("it is not behind the one before");
        }
        if item.children == 0 || item.children.count_ones() as usize != item.depths.len() {
            return Err("it has not one depth for each child");
        }
        Ok(())
    }

    fn encode(items: &[Depths], _: u8, out: &mut Vec<u8>) {
        let columns = keys::encode(items.iter().map(Self::key));
        let mut depths = Vec::new();
        for item in items {
            let mut before = 0_i64;
            for depth in &item.depths {
                put_varint(&mut depths, zigzag(depth.wrapping_sub(before)));
                before = *depth;
            }
        }
        let children: Vec<u16> = items.iter().map(|item| item.children).collect();
        let children = encode_children(&children);
        join([&columns.firsts, &columns.seconds, &depths, &children], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<Depths>, Malformed> {
        let [firsts, seconds, mut column, children] = split(raw)?;
        let keys = keys::decode(firsts, seconds, items)?;
        if keys.len() != items {
            return Err(Malformed("there are other numbers of tasks and items"));
        }
        let children = decode_children(children, items)?;
        let mut out = Vec::with_capacity(items);
        for ((zero, task), children) in keys.into_iter().zip(children) {
            let task =
                u32::try_from(task).map_err(|_| Malformed("a task's number is too large"))?;
            if zero != 0 {
                return Err(Malformed("a task of another class"));
            }
            let mut before = 0_i64;
            let mut depths = Vec::with_capacity(children.count_ones() as usize);
            for _ in 0..children.count_ones() {
                before = before.wrapping_add(unzigzag(column.varint()?));
                depths.push(before);
            }
            out.push(Depths { task: Tid(task as i32), children, depths });
        }
        column.end()?;
        Ok(out)
    }

    fn memory(item: &Depths) -> usize {
        size_of::<Depths>() + item.depths.len() * 8
    }
}
