/* Robust mutexes whose owner dies, as a thread and as a process; priority inheritance; condition
 * variables and semaphores between processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
  pthread_mutex_t robust, inherits;
  sem_t semaphore;
  pthread_cond_t changed;
  pthread_mutex_t lock;
  int value;
};

static struct shared *s;

static void *take_and_die(void *argument) {
  pthread_mutex_lock(&s->robust);
  return argument;
}

static void *inherit(void *argument) {
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&s->inherits);
    s->value++;
    pthread_mutex_unlock(&s->inherits);
  }
  return argument;
}

static int recover(void) {
  int error = pthread_mutex_lock(&s->robust);
  if (error == EOWNERDEAD) pthread_mutex_consistent(&s->robust);
  pthread_mutex_unlock(&s->robust);
  return error == EOWNERDEAD;
}

int main(void) {
  s = mmap(0, sizeof *s, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&s->lock, &attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&s->robust, &attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  pthread_mutex_init(&s->inherits, &attributes);
  pthread_condattr_t condition;
  pthread_condattr_init(&condition);
  pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
  pthread_cond_init(&s->changed, &condition);
  sem_init(&s->semaphore, 1, 0);

  pthread_t thread, more[3];
  pthread_create(&thread, 0, take_and_die, 0);
  pthread_join(thread, 0);
  int recovered = recover();
  for (int i = 0; i < 3; i++) pthread_create(&more[i], 0, inherit, 0);
  for (int i = 0; i < 3; i++) pthread_join(more[i], 0);
  int inherited = s->value;
  if (fork() == 0) {
    pthread_mutex_lock(&s->robust);
    pthread_mutex_lock(&s->lock);
    s->value = -1;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    sem_post(&s->semaphore);
    _exit(0);
  }
  pthread_mutex_lock(&s->lock);
  while (s->value != -1) pthread_cond_wait(&s->changed, &s->lock);
  pthread_mutex_unlock(&s->lock);
  sem_wait(&s->semaphore);
  wait(0);
  printf("%d %d %d\n", recovered, recover(), inherited);
  return 0;
}
