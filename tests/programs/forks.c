/* A server that forks children which are all alive at the same time (300, or as many as the
 * argument says). Each waits for its turn on a pipe, works on its own copy of a table, and tells
 * the result through its exit status. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned table[4096];

int main(int argc, char **argv) {
  int children = argc > 1 ? atoi(argv[1]) : 300;
  int start[2], ready[2];
  if (pipe(start) || pipe(ready)) return 1;
  for (int i = 0; i < 4096; i++) table[i] = i * 2654435761u;
  for (int i = 0; i < children; i++) {
    pid_t child = fork();
    if (child < 0) return 2;
    if (child == 0) {
      char byte;
      table[i] = 1;
      if (write(ready[1], "r", 1) != 1 || read(start[0], &byte, 1) != 1) _exit(99);
      unsigned sum = i;
      for (int j = 0; j < 4096; j++) table[j] ^= sum += table[j] * byte;
      _exit(sum % 64);
    }
  }
  for (int i = 0; i < children; i++) {
    char byte;
    if (read(ready[0], &byte, 1) != 1) return 3;
  }
  for (int i = 0; i < children; i++) {
    if (write(start[1], "g", 1) != 1) return 4;
  }
  long total = 0;
  for (int i = 0; i < children; i++) {
    int status;
    if (wait(&status) < 0) return 5;
    total += WEXITSTATUS(status);
  }
  printf("%d children, %ld\n", children, total);
  return 0;
}
