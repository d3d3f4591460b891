//! The user-visible general registers of a task, as Linux names them.

use serde::{Deserialize, Serialize};

use crate::{Address, GENERAL_NAMES};

/// The 27 words of the kernel's `user_regs_struct` for x86-64, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// In the order of [`crate::gpr`].
    pub general: [u64; 16],
    pub rip: Address,
    pub eflags: u64,
    /// Number of the system call that the task is in; all ones while it runs its own code.
    pub orig_rax: u64,
    pub cs: u64,
    pub ss: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

impl Registers {
    /// Every register with its name: the general ones first, then in the order of the fields.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let special = [
            ("rip", self.rip.0),
            ("eflags", self.eflags),
            ("orig_rax", self.orig_rax),
            ("cs", self.cs),
            ("ss", self.ss),
            ("ds", self.ds),
            ("es", self.es),
            ("fs", self.fs),
            ("gs", self.gs),
            ("fs_base", self.fs_base),
            ("gs_base", self.gs_base),
        ];
        GENERAL_NAMES.into_iter().zip(self.general).chain(special)
    }
}
