/* Processes that race on shared memory until the parent kills one of them in its loop. */
#include "../small.h"

static int run(void) {
  volatile unsigned long *shared = (unsigned long *)mmap_shared(8192);
  long children[3];
  for (int index = 0; index < 3; index++) {
    children[index] = call(FORK, 0, 0, 0, 0);
    if (children[index] == 0) {
      for (unsigned long i = 0; index == 2 || i < 2000; i++) {
        shared[0] = shared[0] * 3 + index;
        __atomic_fetch_add(&shared[1], i | 1, __ATOMIC_SEQ_CST);
        shared[1000 + index] = i;
      }
      return index + 1;
    }
  }
  unsigned long total = 0;
  int status;
  for (int index = 0; index < 3; index++) {
    if (index == 2) {
      while (shared[1002] < 50) {}
      call(KILL, children[2], 9, 0, 0);
    }
    call(WAIT4, children[index], (long)&status, 0, 0);
    total += status;
  }
  put_number(total);
  put_number(shared[1000] + shared[1001]);
  return 0;
}
