//! What the observers add to translated code. All of it is flag-neutral; logs have no overflow
//! checks, because a slice's budget bounds what it can append.

use std::mem::offset_of;
use std::ops::Range;

use iced_x86::{Instruction, OpAccess, OpKind, Register};
use model::Address;

use super::classify::{self, Class, classify};
use super::{Cached, Marked, Translator};
use crate::block::{Block, Phase};
use crate::emit::{COUNTER, Mem, RSP, Reg, S, T};
use crate::executions::Counter;
use crate::layout::COUNTERS;
use crate::observations::CALL_ENTRY;
use crate::state::State;

/// How an instruction uses its explicit memory operand.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Use {
    read: bool,
    write: bool,
    size: usize,
    stack: bool,
}

impl Translator<'_> {
    fn memory_use(&mut self, instruction: &Instruction) -> Use {
        let info = self.tools.info.info(instruction);
        let operand = (0..instruction.op_count())
            .find(|n| instruction.op_kind(*n) == OpKind::Memory)
            .expect("called for a memory operand");
        let access = info.op_access(operand);
        let read = !matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::None);
        let write = !matches!(
            access,
            OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
        );
        Use {
            read,
            write,
            size: instruction.memory_size().size().max(1),
            stack: instruction.memory_base() == Register::RSP,
        }
    }

    /// Called with the host operand of an access; returns the operand to use instead.
    pub(super) fn observe_operand(&mut self, instruction: &Instruction, mem: Mem) -> Mem {
        if self.observers == crate::Observers::default() {
            return mem;
        }
        let used = self.memory_use(instruction);
        let marks = used.write && self.observers.written_words;
        let reads = used.read && self.observers.read_lines && !used.stack;
        let logs = used.write && self.observers.stores;
        if !marks && !reads && !logs {
            return mem;
        }
        let uses_s = mem.base == Some(S) || mem.index.is_some_and(|(index, _)| index == S);
        if !logs && !uses_s {
            // The operand stays as it is, and with it the displacement in T.
            if marks {
                self.mark_words_of(mem, used.size);
            }
            if reads {
                self.out.hot.lea(S, mem);
                self.mark_lines(S, mem, used.size);
            }
            return mem;
        }
        self.cached = Cached::Nothing;
        if mem != Mem::base(S, 0) {
            self.out.hot.lea(S, mem);
        }
        let operand = Mem::base(S, 0);
        if marks {
            self.mark_words(T, used.size);
        }
        if reads {
            self.mark_lines(T, operand, used.size);
        }
        if logs {
            self.log_store(used.size);
        }
        operand
    }

    /// Whether operands on the stack must go through a scratch register to be observed.
    pub(super) fn observes_stack_in_scratch(&mut self, instruction: &Instruction) -> bool {
        (self.observers.written_words || self.observers.stores)
            && self.memory_use(instruction).write
    }

    /// As `mark_words` for an operand, from the address of an earlier mark where that is known.
    fn mark_words_of(&mut self, mem: Mem, size: usize) {
        let base = match (mem.base, mem.index, self.cached) {
            (Some(RSP), None, _) => Cached::Base { register: RSP, drift: 0 },
            (Some(base), Some((T, 0)), Cached::Base { register, .. }) if base == register => {
                Cached::Base { register, drift: 0 }
            }
            (Some(T), None, unit @ Cached::Unit(_)) => unit,
            _ => Cached::Nothing,
        };
        let offset = i64::from(mem.disp);
        if let Some(first) = self.earlier_mark(base, offset) {
            self.store_marks(S, first, size);
            return;
        }
        self.out.hot.lea(S, mem);
        self.mark_words(S, size);
        self.remember_mark(base, offset);
    }

    /// Where the mark of the word there lies, counted from the mark whose address is in S.
    fn earlier_mark(&self, base: Cached, offset: i64) -> Option<i32> {
        let marked = self.marked?;
        let distance = offset - marked.offset;
        let known = marked.writes_of_s == self.out.hot.writes_of_s
            && marked.base == base
            && distance % 8 == 0
            // Nearer than two islands are to each other: where something was stored, the same
            // distance leads to the same marks.
            && distance.unsigned_abs() < 1 << 20;
        known.then_some(distance as i32 / 8)
    }

    /// S holds the address of the mark of the word there.
    fn remember_mark(&mut self, base: Cached, offset: i64) {
        let writes_of_s = self.out.hot.writes_of_s;
        self.marked = (base != Cached::Nothing).then_some(Marked { base, offset, writes_of_s });
    }

    /// Behind an instruction: it may have moved the register that a mark is known by.
    pub(super) fn move_mark(&mut self, instruction: &Instruction) {
        let Some(Marked { base: Cached::Base { register, .. }, .. }) = self.marked else { return };
        let moved = match classify(instruction) {
            Class::Push if register == RSP => Some(-8),
            Class::Pop if register == RSP && instruction.op0_register() != Register::RSP => Some(8),
            _ => classify::constant_move(instruction, register),
        };
        if let (Some(amount), Some(marked)) = (moved, &mut self.marked) {
            marked.offset -= amount;
        } else if classify::writes(&mut self.tools.info, instruction, register) {
            self.marked = None;
        }
    }

    /// Marks the words that `size` bytes at the host address in S touch, and the one behind when
    /// the store may not be aligned: a superset, for one store instead of a second address.
    /// `mark` is the register for the address of the mark, S or T.
    fn mark_words(&mut self, mark: Reg, size: usize) {
        self.out.hot.pext(mark, S, Mem::state(offset_of!(State, word_mask)));
        self.store_marks(mark, 0, size);
    }

    fn store_marks(&mut self, mark: Reg, first: i32, size: usize) {
        let mut marks = if size == 1 { 1 } else { size.div_ceil(8) as i32 + 1 };
        let mut at = first;
        while marks > 0 {
            let mem = Mem::base(mark, at);
            let stored = match marks {
                4.. => {
                    self.out.hot.store_dword(mem, 0x0101_0101);
                    4
                }
                2 | 3 => {
                    self.out.hot.store_word(mem, 0x0101);
                    2
                }
                _ => {
                    self.out.hot.store_byte(mem, 1);
                    1
                }
            };
            (marks, at) = (marks - stored, at + stored);
        }
    }

    /// Marks the lines that `size` bytes at `mem` touch, whose address is in S. No operand but a
    /// state image is longer than a line.
    fn mark_lines(&mut self, mark: Reg, mem: Mem, size: usize) {
        let mask = Mem::state(offset_of!(State, line_mask));
        self.out.hot.pext(mark, S, mask);
        self.out.hot.store_byte(Mem::base(mark, 0), 1);
        if size > 1 {
            let beyond = size as i32 - 1;
            match mem.disp.checked_add(beyond) {
                Some(disp) => self.out.hot.lea(mark, Mem { disp, ..mem }),
                None => {
                    self.out.hot.lea(mark, mem);
                    self.out.hot.lea(mark, Mem::base(mark, beyond));
                }
            }
            self.out.hot.pext(mark, mark, mask);
            self.out.hot.store_byte(Mem::base(mark, 0), 1);
        }
    }

    /// Before `leave` loads the frame pointer from this operand; uses S.
    pub(super) fn observe_frame(&mut self, mem: Mem) {
        if self.observers.read_lines {
            self.out.hot.lea(S, mem);
            self.mark_lines(S, mem, 8);
        }
    }

    /// Appends (host address with size, old bytes) for each 8 bytes of a store; S stays.
    fn log_store(&mut self, size: usize) {
        let (value, address) = (self.borrow(&Instruction::default()), T);
        let cursor = Mem::state(offset_of!(State, store_log));
        let (mut at, mut entries) = (0, 0);
        while at < size {
            let piece = 1 << (size - at).min(8).ilog2();
            self.out.hot.load_sized(piece, value, Mem::base(S, at as i32));
            self.out.hot.load(address, cursor);
            self.out.hot.store(Mem::base(address, 8), value);
            self.out.hot.lea(value, Mem::base(S, at as i32));
            self.out.hot.store(Mem::base(address, 0), value);
            self.out.hot.store_byte(Mem::base(address, 7), piece as u8);
            self.out.hot.lea(address, Mem::base(address, 16));
            self.out.hot.store(cursor, address);
            entries += 1;
            self.mark(Phase::StoreLogged(entries));
            at += piece;
        }
        self.give_back();
        self.mark(Phase::Restored);
    }

    /// Before 8 bytes are pushed; uses S, and T where stores are logged.
    pub(super) fn observe_push(&mut self) {
        if !self.observers.written_words && !self.observers.stores {
            return;
        }
        if self.observers.written_words {
            let stack = Cached::Base { register: RSP, drift: 0 };
            let first = self.earlier_mark(stack, -8).unwrap_or_else(|| {
                self.out.hot.pext(S, RSP, Mem::state(offset_of!(State, word_mask)));
                self.remember_mark(stack, 0);
                -1
            });
            self.store_marks(S, first, 8);
        }
        if self.observers.stores {
            self.cached = Cached::Nothing;
            self.out.hot.lea(S, Mem::base(RSP, -8));
            self.log_store(8);
        }
    }

    /// Before a conditional branch: one byte, 1 when taken.
    pub(super) fn log_condition(&mut self, condition: u8) {
        if !self.observers.control_flow {
            return;
        }
        self.with_flow_log(|hot| {
            // setcc byte [r11]
            hot.bytes.extend([0x41, 0x0f, 0x90 | condition, 0x03]);
        });
    }

    /// As `log_condition`, for an outcome that is known where this is emitted.
    pub(super) fn log_outcome(&mut self, taken: bool) {
        if self.observers.control_flow {
            self.with_flow_log(|hot| hot.store_byte(Mem::base(T, 0), u8::from(taken)));
        }
    }

    fn with_flow_log(&mut self, append: impl FnOnce(&mut crate::emit::Emitter)) {
        self.cached = Cached::Nothing;
        let cursor = Mem::state(offset_of!(State, flow_log));
        self.out.hot.load(T, cursor);
        append(&mut self.out.hot);
        self.out.hot.lea(T, Mem::base(T, 1));
        self.out.hot.store(cursor, T);
    }

    /// A call (its target in S, the return address pushed) or a return (popped, target in S);
    /// whether T was used.
    pub(super) fn log_call(&mut self, call: bool) -> bool {
        if !self.observers.calls {
            return false;
        }
        self.cached = Cached::Nothing;
        let cursor = Mem::state(offset_of!(State, call_log));
        self.out.hot.load(T, cursor);
        self.out.hot.store(Mem::base(T, 0), S);
        self.out.hot.store(Mem::base(T, 8), RSP);
        if call {
            // A host address leaves its top byte free.
            self.out.hot.store_byte(Mem::base(T, 15), 1);
        }
        self.out.hot.store(Mem::base(T, 16), COUNTER);
        self.out.hot.lea(T, Mem::base(T, CALL_ENTRY as i32));
        self.out.hot.store(cursor, T);
        true
    }

    /// The target of an indirect transfer is in S; whether T was used.
    pub(super) fn log_target(&mut self) -> bool {
        if !self.observers.control_flow {
            return false;
        }
        self.cached = Cached::Nothing;
        let cursor = Mem::state(offset_of!(State, target_log));
        self.out.hot.load(T, cursor);
        self.out.hot.store(Mem::base(T, 0), S);
        self.out.hot.lea(T, Mem::base(T, 8));
        self.out.hot.store(cursor, T);
        true
    }

    /// On the taken side of a branch inside the block: what was counted as
    /// executed behind it was not.
    pub(super) fn uncount_executions(&mut self, index: usize) {
        if !self.observers.executions {
            return;
        }
        let behind = Block::bytes_of(&self.out.places[index + 1..]);
        let counter = self.new_counter(behind, -1);
        let scratch: Reg = T;
        self.out.hot.load32(scratch, counter);
        self.out.hot.lea(scratch, Mem::base(scratch, 1));
        self.out.hot.store32(counter, scratch);
    }

    /// A fresh counter: each count adds `factor` executions of the instructions in `ranges`.
    pub(super) fn new_counter(&mut self, ranges: Vec<Range<Address>>, factor: i64) -> Mem {
        let number = self.site.counter + self.out.counters.len() as u32;
        self.out.counters.push(Counter { ranges, factor });
        Mem::absolute(COUNTERS.start + u64::from(number) * 4)
    }
}
