/* What the small recorded programs need of a system, without a C library. */
static long call(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
}

static long mmap_shared(long length) {
  register long flags __asm__("r10") = 0x21, file __asm__("r8") = -1, offset __asm__("r9") = 0;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(9), "D"(0), "S"(length), "d"(3), "r"(flags), "r"(file), "r"(offset)
                   : "rcx", "r11", "memory");
  return result;
}

enum { WRITE = 1, SIGACTION = 13, SETITIMER = 38, GETPID = 39, FORK = 57, WAIT4 = 61, KILL = 62,
       PTRACE = 101, EXIT_GROUP = 231 };

struct action { void *handler; unsigned long flags; void *restorer; unsigned long mask; };

/* Returns from a signal handler. */
void restore(void);
__asm__("restore: mov $15, %eax\n\tsyscall");

static void on_signal(long signal, void *handler) {
  struct action action = {handler, 0x04000000, restore, 0};
  call(SIGACTION, signal, (long)&action, 0, 8);
}

static void put_number(unsigned long number) {
  char text[24], *at = text + 23;
  *at = '\n';
  do *--at = '0' + number % 10; while (number /= 10);
  call(WRITE, 1, (long)at, text + 24 - at, 0);
}

static int run(void);
__attribute__((used)) static void begin(void) { call(EXIT_GROUP, run(), 0, 0, 0); }
__asm__(".globl _start\n_start: and $-16, %rsp\n\tcall begin");
