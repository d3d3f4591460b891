//! Into guest code and out again, and the signal handler that turns its faults into exits.
//!
//! Guest rsp is live in the host's rsp, so signals use an alternate stack, and translated code
//! never uses host `call` or `ret`. The vector registers hold the guest's values throughout.

#![allow(unsafe_code)] // assembly, signal handlers and the state at its fixed address

use std::arch::naked_asm;
use std::mem::offset_of;

use crate::layout;
use crate::state::{EXIT_FAULT, HostFault, State, general, state};

macro_rules! field {
    ($($path:tt)+) => { layout::STATE + offset_of!(State, $($path)+) as u64 };
}

const fn register(number: usize) -> u64 {
    layout::STATE + general(number) as u64
}

/// Runs translated code at `State::entry` until it exits; all guest state is in `State`.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn enter() {
    naked_asm!(
        "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15", "sub rsp, 8",
        "mov [{host_rsp}], rsp",
        "mov eax, [{mask}]", "mov edx, [{mask} + 4]",
        "mov ecx, {vector}",
        "xrstor64 [rcx]",
        "push qword ptr [{rflags}]", "popfq",
        "mov rax, [{rax}]", "mov rcx, [{rcx}]", "mov rdx, [{rdx}]", "mov rbx, [{rbx}]",
        "mov rbp, [{rbp}]", "mov rsi, [{rsi}]", "mov rdi, [{rdi}]", "mov r8, [{r8}]",
        "mov r9, [{counter}]", "mov r10, [{s}]", "mov r11, [{t}]",
        "mov r12, [{r12}]", "mov r13, [{r13}]", "mov r14, [{r14}]", "mov r15, [{r15}]",
        "mov rsp, [{rsp}]",
        "jmp qword ptr [{entry}]",
        host_rsp = const field!(host_rsp), mask = const field!(xsave_mask),
        vector = const field!(vector), rflags = const field!(rflags),
        counter = const field!(counter), s = const field!(s), t = const field!(t),
        entry = const field!(entry),
        rax = const register(0), rcx = const register(1), rdx = const register(2),
        rbx = const register(3), rsp = const register(4), rbp = const register(5),
        rsi = const register(6), rdi = const register(7), r8 = const register(8),
        r12 = const register(12), r13 = const register(13), r14 = const register(14),
        r15 = const register(15),
    )
}

/// Where stubs and the fault handler jump: stores the guest's registers and returns from
/// [`enter`] with the host's control words in force.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "mov [{rax}], rax", "mov [{rcx}], rcx", "mov [{rdx}], rdx", "mov [{rbx}], rbx",
        "mov [{rsp}], rsp",
        "mov [{rbp}], rbp", "mov [{rsi}], rsi", "mov [{rdi}], rdi", "mov [{r8}], r8",
        "mov [{counter}], r9", "mov [{s}], r10", "mov [{t}], r11",
        "mov [{r12}], r12", "mov [{r13}], r13", "mov [{r14}], r14", "mov [{r15}], r15",
        "mov rsp, [{host_rsp}]",
        "pushfq", "pop qword ptr [{rflags}]",
        "push 2", "popfq",
        "mov eax, [{mask}]", "mov edx, [{mask} + 4]",
        "mov ecx, {vector}",
        "xsave64 [rcx]",
        "fninit", "push 0x1f80", "ldmxcsr [rsp]", "pop rcx", "vzeroupper",
        "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
        "ret",
        host_rsp = const field!(host_rsp), mask = const field!(xsave_mask),
        vector = const field!(vector), rflags = const field!(rflags),
        counter = const field!(counter), s = const field!(s), t = const field!(t),
        rax = const register(0), rcx = const register(1), rdx = const register(2),
        rbx = const register(3), rsp = const register(4), rbp = const register(5),
        rsi = const register(6), rdi = const register(7), r8 = const register(8),
        r12 = const register(12), r13 = const register(13), r14 = const register(14),
        r15 = const register(15),
    )
}

/// The address of the common exit, for `State::exit_code`.
pub fn exit_code() -> u64 {
    leave as *const () as u64
}

/// Signals that guest instructions can raise in the host.
const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// The signal handler proper begins with the guest's alignment check off: the kernel leaves that
/// flag as it is, and what the compiler makes of a handler may access memory that is not aligned.
#[unsafe(naked)]
unsafe extern "C" fn enter_handler(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    naked_asm!(
        "pushfq", "and dword ptr [rsp], {not_alignment_check}", "popfq",
        "jmp {handler}",
        not_alignment_check = const !0x4_0000_i32,
        handler = sym on_signal,
    )
}

/// A fault at a host address in the code cache, or at 0 (a jump through an empty entry of a code
/// map), becomes an exit. Anything else is the engine's own: the default action follows.
unsafe extern "C" fn on_signal(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel passes valid pointers to a SA_SIGINFO handler.
    let (registers, info) = unsafe { (&mut (*context).uc_mcontext.gregs, &*info) };
    let rip = registers[libc::REG_RIP as usize] as u64;
    if !layout::CODE.contains(&rip) && rip != 0 {
        // SAFETY: resetting to the default action; the instruction is retried and dies of it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: a fault inside the code cache happens only inside `enter`, while translated code
    // owns the state.
    unsafe {
        (*state()).fault = HostFault {
            rip,
            signal,
            code: info.si_code,
            address: info.si_addr() as u64,
            vector: registers[libc::REG_TRAPNO as usize] as u64,
            error: registers[libc::REG_ERR as usize] as u64,
        };
        (*state()).exit = EXIT_FAULT;
    }
    registers[libc::REG_RIP as usize] = exit_code() as i64;
    // The trap flag is the guest's business; RF would suppress nothing of ours.
    registers[libc::REG_EFL as usize] &= !0x1_0100;
}

/// Installs the handler for the process and an alternate stack for this thread; engine threads
/// block everything but synchronous faults, because rsp is guest memory while they run.
pub fn install() -> std::io::Result<()> {
    // SAFETY: plain system calls with structures of ours; the stack is leaked on purpose, it
    // lives as long as the thread may take signals.
    unsafe {
        let bytes = 256 << 10;
        let stack = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if stack == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let stack = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: bytes };
        if libc::sigaltstack(&stack, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        for signal in SIGNALS {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = enter_handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigfillset(&mut action.sa_mask);
            if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
    }
    Ok(())
}
