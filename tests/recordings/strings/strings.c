/* Timer signals in the middle of long string instructions, forward and backward. */
#include "../small.h"

enum { SIZE = 4 << 20 };
static char from[SIZE], to[SIZE];
static volatile unsigned long signals;

static void handler(int signal) {
  (void)signal;
  signals++;
}

static int run(void) {
  for (int i = 0; i < SIZE; i += 4096) from[i] = i >> 12;
  on_signal(14, handler);
  long timer[4] = {0, 700, 0, 700};
  call(SETITIMER, 0, (long)timer, 0, 0);
  unsigned long rounds = 0, wrong = 0;
  while (signals < 5 && rounds < 3000) {
    char *source = from, *target = to;
    unsigned long count = SIZE;
    __asm__ volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) :: "memory");
    wrong |= source != from + SIZE || target != to + SIZE || count;
    source = from + SIZE - 8, target = to + SIZE - 8, count = SIZE / 8;
    __asm__ volatile("std\n\trep movsq\n\tcld" : "+S"(source), "+D"(target), "+c"(count) :: "memory");
    wrong |= source != from - 8 || target != to - 8 || count;
    target = to, count = SIZE / 4;
    __asm__ volatile("rep stosl" : "+D"(target), "+c"(count) : "a"(0) : "memory");
    rounds++;
  }
  long none[4] = {0, 0, 0, 0};
  call(SETITIMER, 0, (long)none, 0, 0);
  put_number(signals >= 5);
  put_number(wrong);
  return 0;
}
