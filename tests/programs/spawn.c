/* A tree of processes made by vfork and posix_spawn, each of which executes this program again, to
 * the depth in the argument. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
  int depth = argc > 1 ? atoi(argv[1]) : 3;
  if (depth == 0) return 1;
  char text[12];
  snprintf(text, sizeof text, "%d", depth - 1);
  char *arguments[] = {argv[0], text, 0};
  pid_t spawned, forked = vfork();
  if (forked == 0) {
    execv("/proc/self/exe", arguments);
    _exit(77);
  }
  if (posix_spawn(&spawned, "/proc/self/exe", 0, 0, arguments, environ)) return 78;
  pid_t failing = vfork();
  if (failing == 0) {
    execv("/does/not/exist", arguments);
    _exit(0);
  }
  int sum = 0;
  for (int i = 0; i < 3; i++) {
    int status;
    if (wait(&status) < 0) return 79;
    sum += WEXITSTATUS(status);
  }
  if (argc < 2) printf("%d leaves\n", sum);
  return sum;
}
