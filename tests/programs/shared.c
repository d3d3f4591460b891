/* Processes that race on shared memory of four kinds: anonymous, a file, System V, POSIX. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LENGTH = 8192, WORKERS = 4, ROUNDS = 3000 };

static void race(const char *name, volatile unsigned *memory) {
  atomic_uint *exact = (atomic_uint *)memory + 1;
  for (int worker = 0; worker < WORKERS; worker++) {
    if (fork() == 0) {
      for (int i = 0; i < ROUNDS; i++) {
        memory[0] = memory[0] * 3 + worker;
        atomic_fetch_add(exact, i);
        memory[LENGTH / 4 - 1 - worker] = i;
      }
      _exit(0);
    }
  }
  while (wait(0) > 0) {}
  unsigned last = 0;
  for (int worker = 0; worker < WORKERS; worker++) last += memory[LENGTH / 4 - 1 - worker];
  printf("%s %x %u %u\n", name, memory[0], *exact, last);
  fflush(stdout);
}

int main(void) {
  setvbuf(stdout, 0, _IOFBF, 4096);
  race("anonymous", mmap(0, LENGTH, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  char path[] = "shared.XXXXXX";
  int file = mkstemp(path);
  ftruncate(file, LENGTH);
  race("file", mmap(0, LENGTH, 3, MAP_SHARED, file, 0));
  unlink(path);
  int id = shmget(IPC_PRIVATE, LENGTH, IPC_CREAT | 0600);
  void *segment = shmat(id, 0, 0);
  shmctl(id, IPC_RMID, 0);
  race("sysv", segment);
  shmdt(segment);
  int object = shm_open("/recording-of-shared", O_RDWR | O_CREAT, 0600);
  shm_unlink("/recording-of-shared");
  ftruncate(object, LENGTH);
  race("posix", mmap(0, LENGTH, 3, MAP_SHARED, object, 0));
  return 0;
}
