/* Threads that are all alive at the same time (1000, or as many as the argument says): they meet
 * at a barrier, then each adds to a sum under a lock and to one without. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_barrier_t all_there;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long guarded;
static atomic_ulong atomic_sum;
static _Thread_local unsigned long own;

static void *work(void *argument) {
  unsigned long number = (unsigned long)argument;
  pthread_barrier_wait(&all_there);
  for (unsigned i = 0; i < 50; i++) own = own * 31 + number + i;
  atomic_sum += own;
  pthread_mutex_lock(&lock);
  guarded += own;
  pthread_mutex_unlock(&lock);
  return (void *)own;
}

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 1000;
  pthread_t *threads = calloc(count, sizeof *threads);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  pthread_barrier_init(&all_there, 0, count + 1);
  for (long i = 0; i < count; i++) {
    if (pthread_create(&threads[i], &attributes, work, (void *)i)) return 1;
  }
  pthread_barrier_wait(&all_there);
  unsigned long sum = 0;
  for (int i = 0; i < count; i++) {
    void *result;
    pthread_join(threads[i], &result);
    sum += (unsigned long)result;
  }
  printf("%d threads, %d\n", count, sum == guarded && sum == atomic_sum);
  return 0;
}
