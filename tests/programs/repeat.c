/* Timer signals in the middle of one long `rep movsb`, forward and backward, and of `rep stosb`
 * and `repe cmpsb`. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { SIZE = 48 << 20 };
static volatile sig_atomic_t signals;

static void handler(int signal) {
  (void)signal;
  signals++;
}

int main(void) {
  char *from = malloc(SIZE), *to = malloc(SIZE);
  for (int i = 0; i < SIZE; i += 512) from[i] = i >> 9;
  struct sigaction action = {.sa_handler = handler};
  sigaction(SIGALRM, &action, 0);
  struct itimerval timer = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &timer, 0);
  int rounds = 0, wrong = 0;
  while (signals < 6 && rounds < 200) {
    char *source = from, *target = to;
    size_t count = SIZE;
    asm volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) :: "memory");
    wrong |= source != from + SIZE || target != to + SIZE || count;
    source = from + SIZE - 1, target = to + SIZE - 1, count = SIZE / 64;
    asm volatile("std\n\trep movsb\n\tcld" : "+S"(source), "+D"(target), "+c"(count) :: "memory");
    source = from, target = to, count = SIZE / 16;
    asm volatile("repe cmpsb" : "+S"(source), "+D"(target), "+c"(count) :: "memory", "cc");
    wrong |= count != 0;
    target = to, count = SIZE;
    asm volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(rounds) : "memory");
    rounds++;
  }
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, 0);
  printf("%d %d\n", signals >= 6, wrong);
  return 0;
}
