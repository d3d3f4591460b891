/* A tracer and its tracee: breakpoints, single steps, system call stops; registers and memory of
 * the tracee read and changed. */
#include "../small.h"

enum { TRACEME, PEEKTEXT, POKETEXT = 4, POKEUSER = 6, CONT, SINGLESTEP = 9, GETREGS = 12, SETREGS,
       SYSCALL = 24 };
enum { R_R10 = 7, R_RAX = 10, R_RDI = 14, R_ORIG = 15, R_RIP = 16 };

static volatile unsigned long value = 5;

/* The tracee: four instructions between breakpoints, then two calls. */
static int tracee(void) {
  call(PTRACE, TRACEME, 0, 0, 0);
  unsigned long sum;
  __asm__ volatile("int3\n\tmov %1, %0\n\tlea 3(%0), %0\n\tadd %0, %0\n\tint3\n\tnop\n\tnop"
                   : "=&r"(sum) : "m"(value) : "memory");
  long id = call(GETPID, 0, 0, 0, 0);
  for (unsigned long i = 0; i < sum; i++) value += i;
  return (id + sum + value) & 127;
}

static unsigned long registers[27];

static int run(void) {
  long child = call(FORK, 0, 0, 0, 0);
  if (child == 0) return tracee();
  int status;
  unsigned long steps = 0;
  call(WAIT4, child, (long)&status, 0, 0);
  call(PTRACE, GETREGS, child, 0, (long)registers);
  unsigned long start = registers[R_RIP];
  call(PTRACE, POKETEXT, child, (long)&value, 1000);
  do {
    call(PTRACE, SINGLESTEP, child, 0, 0);
    call(WAIT4, child, (long)&status, 0, 0);
    call(PTRACE, GETREGS, child, 0, (long)registers);
    steps++;
  } while (status == 0x57f && registers[R_RIP] - start < 64 && steps < 4);
  put_number(steps);
  put_number(registers[R_RIP] - start);
  put_number(registers[R_RAX]);
  /* Over the second of the two nops behind the breakpoint, by a changed rip. */
  registers[R_RIP]++;
  call(PTRACE, SETREGS, child, 0, (long)registers);
  /* Into the call and out of it with another result. */
  for (int stop = 0; stop < 2; stop++) {
    call(PTRACE, SYSCALL, child, 0, 0);
    call(WAIT4, child, (long)&status, 0, 0);
    call(PTRACE, GETREGS, child, 0, (long)registers);
    put_number(registers[R_ORIG]);
  }
  call(PTRACE, POKEUSER, child, R_RAX * 8, 7);
  call(PTRACE, CONT, child, 0, 0);
  call(WAIT4, child, (long)&status, 0, 0);
  put_number((status >> 8) & 255);
  return 0;
}
