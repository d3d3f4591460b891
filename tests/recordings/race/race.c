/* Two threads pay into one account without a lock: now and then one works with a balance that the
 * other has changed since, and a payment is lost. */
#include "../small.h"

enum { CLONE = 56, EXIT = 60, THREAD = 0x50f00 };

struct account {
  long number;
  long balance;
  long payments;
};

struct account account = {4711, 1000, 0};
static volatile long finished;

/* What the bank takes of a payment: a hundredth, rounded up by hand. */
static __attribute__((noinline)) long fee(long amount) {
  long hundredths = 0;
  for (long rest = amount; rest > 0; rest -= 100)
    hundredths++;
  return hundredths;
}

static __attribute__((noinline)) void pay_in(volatile struct account *to, long amount) {
  long balance = to->balance;
  long credit = amount - fee(amount);
  to->balance = balance + credit;           /* BUG: the balance may be another one by now */
  __atomic_fetch_add(&to->payments, 1, __ATOMIC_SEQ_CST);
}

static void payer(long amount) {
  for (int i = 0; i < 50; i++)
    pay_in(&account, amount);
  __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
}

static char stacks[2][16384];

/* The child takes the function's argument from its stack. */
static void start(int index, long amount) {
  long *top = (long *)(stacks[index] + sizeof stacks[index]) - 2;
  top[0] = amount;
  register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
  long result;
  __asm__ volatile("syscall\n\t"
                   "test %%eax, %%eax\n\t"
                   "jnz 1f\n\t"
                   "xor %%ebp, %%ebp\n\t"
                   "mov (%%rsp), %%rdi\n\t"
                   "call *%[payer]\n\t"
                   "mov %[exit], %%eax\n\t"
                   "xor %%edi, %%edi\n\t"
                   "syscall\n"
                   "1:"
                   : "=a"(result)
                   : "a"(CLONE), "D"(THREAD), "S"(top), "d"(0), "r"(r10), "r"(r8),
                     [payer] "b"(payer), [exit] "i"(EXIT)
                   : "rcx", "r11", "memory");
}

static int run(void) {
  start(0, 1000);
  start(1, 3000);
  while (finished < 2) {}
  put_number(account.balance);
  return account.balance == 1000 + 50 * 990 + 50 * 2970 ? 0 : 1;
}
