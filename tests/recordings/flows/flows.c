/* Values that travel, at -O2: through a pipe from another process, copies, a parser, a thread,
 * registers that calls keep, atomic exchanges, and memory that processes share. */
#include "../small.h"

enum { READ = 0, PIPE = 22, CLONE = 56, EXIT = 60, THREAD = 0x50f00 };

struct item {
  long id;
  char name[16];
  long price;
};

/* Where they end. */
struct item kept[2];
long carried, swapped, replaced, shared_result, chosen, widened;

static struct item slot;
static volatile long full, taken;
static long box = 7;
static char stack[16384];

__attribute__((noinline)) void *memcpy(void *to, const void *from, unsigned long length) {
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
  return start;
}

/* "4242;teapot;" */
static __attribute__((noinline)) long parse(const char *text) {
  long number = 0;
  while (*text >= '0' && *text <= '9')
    number = number * 10 + (*text++ - '0');
  return number;
}

static __attribute__((noinline)) void fill(struct item *item, long id, const char *name) {
  item->id = id;
  memcpy(item->name, name, 6);
  item->price = 350;
}

static __attribute__((noinline)) void keep(struct item *to, const struct item *item) {
  *to = *item;
}

static __attribute__((noinline)) long seed(long from) { return from * 3 + 1; }

static __attribute__((noinline)) void disturb(long rounds) {
  for (volatile long i = 0; i < rounds; i++) {}
}

static __attribute__((noinline)) void carry(long from) {
  long value = seed(from);
  disturb(value);
  carried = value;
}

static __attribute__((noinline)) void choose(long which, long one, long other) {
  chosen = which > 2 ? one : other;
}

static __attribute__((noinline)) void widen(const int *from) { widened = *from; }

static void producer(void) {
  struct item item;
  fill(&item, 99, "saucer");
  keep(&slot, &item);
  full = 1;
  while (!taken) {}
}

static void start(void) {
  long *top = (long *)(stack + sizeof stack) - 2;
  register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
  long result;
  __asm__ volatile("syscall\n\t"
                   "test %%eax, %%eax\n\t"
                   "jnz 1f\n\t"
                   "xor %%ebp, %%ebp\n\t"
                   "call *%[producer]\n\t"
                   "mov %[exit], %%eax\n\t"
                   "xor %%edi, %%edi\n\t"
                   "syscall\n"
                   "1:"
                   : "=a"(result)
                   : "a"(CLONE), "D"(THREAD), "S"(top), "d"(0), "r"(r10), "r"(r8),
                     [producer] "b"(producer), [exit] "i"(EXIT)
                   : "rcx", "r11", "memory");
}

static int run(void) {
  int ends[2], status, small = -5;
  char text[32];
  struct item item;
  volatile long *shared = (long *)mmap_shared(4096);
  call(PIPE, (long)ends, 0, 0, 0);
  long child = call(FORK, 0, 0, 0, 0);
  if (child == 0) {
    shared[1] = seed(4);
    call(WRITE, ends[1], (long)"4242;te", 7, 0);
    call(WRITE, ends[1], (long)"apot;", 5, 0);
    return 0;
  }
  call(WAIT4, child, (long)&status, 0, 0);
  call(READ, ends[0], (long)text, sizeof text, 0);
  fill(&item, parse(text), text + 5);
  keep(&kept[0], &item);
  shared_result = shared[1];
  start();
  while (!full) {}
  keep(&kept[1], &slot);
  taken = 1;
  carry(kept[1].id);
  swapped = __atomic_exchange_n(&box, kept[0].price, __ATOMIC_SEQ_CST);
  long expected = kept[0].price;
  __atomic_compare_exchange_n(&box, &expected, carried, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  replaced = box;
  choose(3, shared_result, carried);
  __asm__ volatile("" : "+m"(small));
  widen(&small);
  put_number(kept[0].id + chosen + swapped + widened);
  return 0;
}
