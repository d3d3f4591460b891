/* Stacks: makecontext and swapcontext, sigaltstack, handlers that leave by siglongjmp, overflow of
 * the stack caught on the alternative one. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <ucontext.h>

static ucontext_t main_context, contexts[3];
static sigjmp_buf out;
static volatile sig_atomic_t alarms, overflows;
static int order[64], turns;

static void body(int number) {
  for (int i = 0; i < 5; i++) {
    order[turns++] = number;
    swapcontext(&contexts[number], number == 2 ? &main_context : &contexts[number + 1]);
  }
}

static void on_alarm(int signal) {
  (void)signal;
  alarms++;
  siglongjmp(out, alarms);
}

static void on_segv(int signal) {
  (void)signal;
  overflows++;
  siglongjmp(out, 100 + overflows);
}

static int deep(int depth) {
  volatile char space[4096];
  space[depth % 4096] = depth;
  return deep(depth + 1) + space[0];
}

int main(void) {
  for (int i = 0; i < 3; i++) {
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = malloc(64 << 10);
    contexts[i].uc_stack.ss_size = 64 << 10;
    contexts[i].uc_link = &main_context;
    makecontext(&contexts[i], (void (*)(void))body, 1, i);
  }
  for (int i = 0; i < 5; i++) swapcontext(&main_context, &contexts[0]);
  for (int i = 0; i < turns; i++) putchar('0' + order[i]);
  putchar('\n');

  stack_t alternative = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
  sigaltstack(&alternative, 0);
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK};
  sigaction(SIGALRM, &action, 0);
  action.sa_handler = on_segv;
  sigaction(SIGSEGV, &action, 0);
  struct itimerval timer = {{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &timer, 0);
  volatile unsigned long count = 0;
  if (sigsetjmp(out, 1) < 6) {
    while (count != ~0UL) count = count + 1;
  }
  timer = (struct itimerval){0};
  setitimer(ITIMER_REAL, &timer, 0);
  if (sigsetjmp(out, 1) < 102) return deep(0);
  printf("%d %d %d\n", (int)alarms, (int)overflows, count > 0);
  return 0;
}
