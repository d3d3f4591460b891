/* Children killed by SIGKILL at any place: in a loop, in buffered system calls, while blocked, with
 * threads. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long count;

static void *spin(void *argument) {
  while (count != ~0UL) count++;
  return argument;
}

static void victim(int kind) {
  char buffer[64];
  int zero = open("/dev/zero", O_RDONLY), ends[2];
  if (pipe(ends)) _exit(1);
  pthread_t thread;
  switch (kind) {
    case 0: spin(0); break;
    case 1: while (read(zero, buffer, sizeof buffer) > 0) getppid(); break;
    case 2: while (read(ends[0], buffer, 1) > 0) {} break;
    case 3:
      for (int i = 0; i < 3; i++) pthread_create(&thread, 0, spin, 0);
      pthread_join(thread, 0);
  }
  _exit(2);
}

int main(void) {
  for (int kind = 0; kind < 8; kind++) {
    pid_t child = fork();
    if (child == 0) victim(kind % 4);
    struct timespec pause = {0, 20000000 + kind * 1000000};
    nanosleep(&pause, 0);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    printf("%d", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
  }
  putchar('\n');
  return 0;
}
