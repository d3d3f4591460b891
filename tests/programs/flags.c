/* Flags that a program sets itself, across signals and system calls: TF (single steps by the
 * processor), AC (alignment checks), DF. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t steps, misaligned, alarms, backward;
static volatile unsigned long flags_seen;

static void on_trap(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ucontext_t *u = context;
  if (++steps == 40) u->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
}

static void on_bus(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ucontext_t *u = context;
  misaligned++;
  u->uc_mcontext.gregs[REG_EFL] &= ~0x40000L;
}

static void on_alarm(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ucontext_t *u = context;
  unsigned long own;
  asm volatile("pushf\n\tpop %0" : "=r"(own));
  alarms++;
  backward += (u->uc_mcontext.gregs[REG_EFL] & 0x400) != 0;
  flags_seen |= own;
}

static unsigned long get_flags(void) {
  unsigned long flags;
  asm volatile("pushf\n\tpop %0" : "=r"(flags));
  return flags;
}

int main(void) {
  struct sigaction action = {.sa_flags = SA_SIGINFO};
  action.sa_sigaction = on_trap;
  sigaction(SIGTRAP, &action, 0);
  action.sa_sigaction = on_bus;
  sigaction(SIGBUS, &action, 0);
  action.sa_sigaction = on_alarm;
  sigaction(SIGALRM, &action, 0);

  unsigned sum = 0;
  asm volatile("pushf\n\torl $0x100, (%%rsp)\n\tpopf" ::: "memory", "cc");
  for (int i = 0; i < 100; i++) sum += i;
  printf("steps %d, sum %u, TF %lu\n", (int)steps, sum, get_flags() & 0x100);

  char bytes[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  unsigned value;
  asm volatile("pushf\n\torl $0x40000, (%%rsp)\n\tpopf\n\tmov (%1), %0\n\tpushf\n\t"
               "andl $~0x40000, (%%rsp)\n\tpopf"
               : "=&r"(value) : "r"((unsigned long)(bytes + 9) & ~7UL | 1) : "memory", "cc");
  printf("misaligned %d, AC %lu\n", (int)misaligned, get_flags() & 0x40000);

  /* AC does not survive a system call that rr records; DF must be clear behind one. */
  long id;
  asm volatile("std\n\tsyscall\n\tpushf\n\tpop %1\n\tcld"
               : "=a"(id), "=r"(flags_seen) : "0"(SYS_getpid) : "rcx", "r11", "memory", "cc");
  printf("own id %d\n", id == getpid());
  flags_seen = 0;

  struct itimerval timer = {{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &timer, 0);
  asm volatile("std\n1:\tmov %0, %%eax\n\tcmp $4, %%eax\n\tjl 1b\n\tcld"
               :: "m"(alarms) : "rax", "memory", "cc");
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, 0);
  printf("backward %d, in handlers %lu\n", backward > 0, flags_seen & 0x400);
  return 0;
}
