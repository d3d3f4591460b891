//! What values are read from: one task's frame at one moment. The caller implements it.

use std::sync::Arc;

use model::Address;
use symbols::{DieId, Frame, LinkAddress, Module};

/// A frame of a task at a moment, with the memory and the modules that the task sees.
pub trait Target {
    /// Fills `bytes` from memory; false if some of it is not mapped, or not known.
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool;

    /// A register as the frame sees it, by its number in the psABI (figure 3.36: 0 is rax, 1 rdx,
    /// 7 rsp, 16 the return address, 17 xmm0), its lower 128 bits. `None` if it is not known: a
    /// frame that called has only those that its callees keep.
    fn register(&self, number: u16) -> Option<u128>;

    /// A register that the psABI gives no number which is used here: `eflags`, `fs_base`,
    /// `orig_rax`.
    fn named_register(&self, _name: &str) -> Option<u64> {
        None
    }

    /// What is loaded. Numbers of modules are indices into it.
    fn modules(&self) -> &[Loaded];

    /// Where the frame is. `None` without a frame: then there are global things only.
    fn standing(&self) -> Option<Standing>;

    /// Where the task has what is at an offset of a module's block of thread-local variables.
    /// Without an answer it is looked up in glibc's table, for which the register `fs_base` and
    /// the modules in the order in which they were loaded are needed.
    fn thread_local(&self, _module: usize, _offset: u64) -> Option<Address> {
        None
    }

    /// The same frame at the first instruction of its function, for parameters that were not
    /// kept.
    fn entry(&self) -> Option<&dyn Frame> {
        None
    }
}

/// A module that is loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub module: Arc<Module>,
    /// What its addresses have more at run time than in its file.
    pub bias: u64,
}

impl Loaded {
    /// Whether the module is mapped at an address.
    pub(crate) fn contains(&self, address: Address) -> bool {
        let link = LinkAddress::from_loaded(address, self.bias);
        self.module.image().segments.iter().any(|segment| segment.range.contains(&link))
    }
}

/// Where a frame is in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The module that the code belongs to.
    pub module: usize,
    /// Of the next instruction; in a frame that called, inside the call: the return address
    /// less 1.
    pub address: LinkAddress,
    /// The activation (see [`symbols::Activation::instance`]) whose variables are meant, of those
    /// that are inlined at the address; none is the innermost.
    pub instance: Option<DieId>,
    /// The canonical frame address, if it is known: it saves unwinding.
    pub cfa: Option<Address>,
}

/// A target as the symbols of one of its modules see it.
pub(crate) struct ModuleFrame<'t> {
    pub target: &'t dyn Target,
    pub module: usize,
    /// Whether it is the frame's own module.
    pub own: Option<Standing>,
}

impl ModuleFrame<'_> {
    /// glibc, `sysdeps/x86_64/nptl/tls.h`: the second word of a thread's control block points to
    /// its table, which has two words for each module that has such variables, from 1 on; the
    /// first of them is the address. Modules have their numbers in the order of loading.
    fn in_thread_table(&self, offset: u64) -> Option<Address> {
        let modules = self.target.modules().get(..=self.module)?;
        let has_block =
            |loaded: &&Loaded| loaded.module.image().sections.iter().any(|s| s.thread_local);
        has_block(&modules.last()?).then_some(())?;
        let number = modules.iter().filter(has_block).count() as u64;
        let word = |address: u64| {
            let mut bytes = [0; 8];
            let read = self.target.read(Address(address), &mut bytes);
            read.then(|| u64::from_le_bytes(bytes))
        };
        let table = word(self.target.named_register("fs_base")?.wrapping_add(8))?;
        let block = word(table.wrapping_add(16 * number))?;
        // All ones where the thread has not used them yet.
        (block != 0 && block != u64::MAX).then(|| Address(block.wrapping_add(offset)))
    }
}

impl Frame for ModuleFrame<'_> {
    fn register(&self, register: u16) -> Option<u128> {
        self.target.register(register)
    }

    fn memory(&self, address: Address, bytes: &mut [u8]) -> bool {
        self.target.read(address, bytes)
    }

    fn bias(&self) -> u64 {
        self.target.modules().get(self.module).map_or(0, |loaded| loaded.bias)
    }

    fn cfa(&self) -> Option<Address> {
        self.own.and_then(|standing| standing.cfa)
    }

    fn thread_local(&self, offset: u64) -> Option<Address> {
        self.target.thread_local(self.module, offset).or_else(|| self.in_thread_table(offset))
    }

    fn entry(&self) -> Option<&dyn Frame> {
        self.own.and_then(|_| self.target.entry())
    }
}
