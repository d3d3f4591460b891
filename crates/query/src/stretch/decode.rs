//! Following a log of control flow through the code that was there.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind};
use model::{Address, Moment, Tid, gpr};
use replay::{FlowRun, MemoryId, Observed, Progress, Session};
use rustc_hash::FxHashMap;

use super::Run;
use crate::failure::{Code, Failure};

/// Instructions in a block at most.
const BLOCK_MAX: u64 = 64;
/// Bytes that they take at most.
const BYTES_MAX: usize = 15 * BLOCK_MAX as usize;

/// A straight piece of code.
#[derive(Clone, Debug)]
pub struct Block {
    pub instructions: Vec<Instruction>,
    /// Bytes of all instructions, in order.
    pub bytes: Vec<u8>,
    /// How it goes on behind the last instruction.
    pub transfer: Transfer,
}

/// An instruction of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub address: Address,
    pub length: u8,
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// It just ends: the run was interrupted, or there are no more instructions in one block.
    None,
    Conditional {
        target: Address,
    },
    Jump {
        target: Address,
    },
    IndirectJump,
    Call {
        target: Address,
    },
    IndirectCall,
    Return,
}

impl Block {
    pub fn start(&self) -> Address {
        self.instructions[0].address
    }

    /// Behind the last instruction.
    pub fn end(&self) -> Address {
        self.instructions.last().map_or(Address(0), |last| last.address + u64::from(last.length))
    }

    /// The bytes of an instruction, by its index.
    pub fn code(&self, index: usize) -> &[u8] {
        let start = self.start();
        let instruction = self.instructions[index];
        let from = (instruction.address - start) as usize;
        &self.bytes[from..from + usize::from(instruction.length)]
    }

    pub fn decode(&self, index: usize) -> iced_x86::Instruction {
        let at = self.instructions[index].address.0;
        Decoder::with_ip(64, self.code(index), at, DecoderOptions::NONE).decode()
    }
}

/// A leaf as it ran.
#[derive(Debug, Default)]
pub struct Recorded {
    pub blocks: Vec<Block>,
    pub path: Vec<u32>,
    pub runs: Vec<Run>,
    /// Signal handlers that began and ended, in order of time.
    pub handlers: Vec<HandlerEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerEvent {
    pub moment: Moment,
    pub tid: Tid,
    pub kind: HandlerEventKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerEventKind {
    /// A handler at this address begins; its return address lies at `slot`.
    Began {
        function: Address,
        slot: Address,
    },
    Returned,
}

/// Executes to `end` and follows what was executed. The session observes control flow.
pub fn record(session: &mut Session, end: Moment, last: bool) -> Result<Recorded, Failure> {
    session.take_observed(Vec::new())?;
    let until = if last { Moment(u64::MAX) } else { end };
    let mut follower = Follower::default();
    loop {
        let progress = session.advance(Some(until))?;
        let observed = session.take_observed(Vec::new())?;
        follower.step += 1;
        follower.follow(session, &observed)?;
        match progress {
            Progress::Event(report) => follower.note_event(session, &report),
            Progress::Moment if session.moment() < end => {}
            Progress::Stop(_) => {}
            _ => break,
        }
    }
    Ok(follower.recorded)
}

#[derive(Debug, Default)]
struct Follower {
    recorded: Recorded,
    /// By space, address and limit of instructions: index of the block, and the step at which its
    /// bytes were last compared with memory.
    known: FxHashMap<(u32, Address, u64), (u32, u64)>,
    /// Of the session: code is the same within one.
    step: u64,
}

impl Follower {
    fn note_event(&mut self, session: &Session, report: &replay::EventReport) {
        let registers = session.registers(report.tid).unwrap_or_default();
        let kind = if report.kind.starts_with("SIGNAL_HANDLER") {
            let slot = Address(registers.general[gpr::RSP]);
            HandlerEventKind::Began { function: registers.rip, slot }
        } else if report.kind == "SYSCALL 15 exiting" {
            HandlerEventKind::Returned
        } else {
            return;
        };
        let (moment, tid) = (report.moment, report.tid);
        self.recorded.handlers.push(HandlerEvent { moment, tid, kind });
    }

    fn follow(&mut self, session: &Session, observed: &Observed) -> Result<(), Failure> {
        let (mut taken, mut targets) = (0, 0);
        for run in &observed.flow_runs {
            let flow = Flow {
                taken: observed.flow.taken.get(taken..run.taken).unwrap_or_default(),
                targets: observed.flow.targets.get(targets..run.targets).unwrap_or_default(),
            };
            (taken, targets) = (run.taken, run.targets);
            self.follow_run(session, run, flow).ok_or_else(|| {
                let what = "the code changed while it ran, and cannot be followed";
                Failure::new(Code::NotAvailable, what)
                    .at(format!("task {}, from moment {}", run.tid, run.moment))
            })?;
        }
        Ok(())
    }

    /// `None` if code and log do not fit together.
    fn follow_run(&mut self, session: &Session, run: &FlowRun, mut flow: Flow<'_>) -> Option<()> {
        let MemoryId(space) = run.space;
        let first = self.recorded.path.len() as u32;
        let (tid, moment) = (run.tid, run.moment);
        let joins =
            self.recorded.runs.last().is_some_and(|last| (last.tid, last.space) == (tid, space));
        if !joins {
            self.recorded.runs.push(Run { tid, space, moment, first });
        }
        let (mut address, mut left) = (run.address, run.instructions);
        while left > 0 {
            let id = self.block(session, run, address, left.min(BLOCK_MAX))?;
            let block = &self.recorded.blocks[id as usize];
            self.recorded.path.push(id);
            left = left.checked_sub(block.instructions.len() as u64)?;
            let behind = block.end();
            address = match block.transfer {
                Transfer::None => behind,
                Transfer::Conditional { target } if flow.take()? => target,
                Transfer::Conditional { .. } => behind,
                Transfer::Jump { target } | Transfer::Call { target } => target,
                Transfer::IndirectJump | Transfer::IndirectCall | Transfer::Return => {
                    flow.target()?
                }
            };
        }
        flow.is_over().then_some(())
    }

    /// The block of at most `limit` instructions at an address.
    fn block(
        &mut self,
        session: &Session,
        run: &FlowRun,
        address: Address,
        limit: u64,
    ) -> Option<u32> {
        let key = (run.space.0, address, limit);
        let memory = session.memory_of(run.space)?;
        if let Some((id, step)) = self.known.get_mut(&key) {
            let block = &self.recorded.blocks[*id as usize];
            let same = *step == self.step || {
                let mut now = vec![0; block.bytes.len()];
                memory.read(address, &mut now).is_ok() && now == block.bytes
            };
            if same {
                *step = self.step;
                return Some(*id);
            }
        }
        let mut bytes = [0; BYTES_MAX];
        let mut length = BYTES_MAX;
        // At the end of a mapping there are fewer.
        if memory.read(address, &mut bytes).is_err() {
            let page = (address.page_start() + model::PAGE_SIZE - address) as usize;
            length = page.min(BYTES_MAX);
            memory.read(address, &mut bytes[..length]).ok()?;
        }
        let block = decode(&bytes[..length], address, limit)?;
        let id = self.recorded.blocks.len() as u32;
        self.recorded.blocks.push(block);
        self.known.insert(key, (id, self.step));
        Some(id)
    }
}

fn decode(bytes: &[u8], address: Address, limit: u64) -> Option<Block> {
    let mut decoder = Decoder::with_ip(64, bytes, address.0, DecoderOptions::NONE);
    let mut instructions = Vec::new();
    let mut transfer = Transfer::None;
    let mut length = 0;
    while (instructions.len() as u64) < limit && decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        length += instruction.len();
        instructions.push(Instruction {
            address: Address(instruction.ip()),
            length: instruction.len() as u8,
        });
        let near = matches!(instruction.op0_kind(), OpKind::NearBranch64);
        let target = Address(instruction.near_branch_target());
        transfer = match instruction.flow_control() {
            _ if instruction.mnemonic() == Mnemonic::Syscall => break,
            FlowControl::Next => continue,
            FlowControl::ConditionalBranch => Transfer::Conditional { target },
            FlowControl::UnconditionalBranch if near => Transfer::Jump { target },
            FlowControl::Call if near => Transfer::Call { target },
            FlowControl::IndirectBranch => Transfer::IndirectJump,
            FlowControl::IndirectCall => Transfer::IndirectCall,
            FlowControl::Return => Transfer::Return,
            _ => Transfer::None,
        };
        break;
    }
    let bytes = bytes[..length].to_vec();
    (!instructions.is_empty()).then_some(Block { instructions, bytes, transfer })
}

/// What is left of a log.
struct Flow<'o> {
    taken: &'o [bool],
    targets: &'o [Address],
}

impl Flow<'_> {
    fn take(&mut self) -> Option<bool> {
        let (first, rest) = self.taken.split_first()?;
        self.taken = rest;
        Some(*first)
    }

    fn target(&mut self) -> Option<Address> {
        let (first, rest) = self.targets.split_first()?;
        self.targets = rest;
        Some(*first)
    }

    fn is_over(&self) -> bool {
        self.taken.is_empty() && self.targets.is_empty()
    }
}
