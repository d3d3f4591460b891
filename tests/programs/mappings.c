/* Mappings that are moved, grown, shrunk, discarded, protected, and one memfd mapped twice, writable
 * and executable, whose code is changed while it runs. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

static void remap(void) {
  unsigned char *p = mmap(0, 8 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 8 * PAGE; i++) p[i] = i / PAGE + 1;
  unsigned char *hole = mmap(0, 64 * PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned char *q = mremap(p, 8 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole + PAGE);
  q[20 * PAGE] = 99;
  madvise(q + 2 * PAGE, PAGE, MADV_DONTNEED);
  q = mremap(q, 32 * PAGE, 4 * PAGE, 0);
  unsigned char *r = mremap(q + PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
  printf("%d %d %d", q[0], q[3 * PAGE], r == MAP_FAILED ? -1 : r[0]);
  mprotect(q, 4 * PAGE, PROT_READ);
  mprotect(q + 2 * PAGE, PAGE, 3);
  q[2 * PAGE] = 7;
  munmap(q + PAGE, PAGE);
  printf(" %d\n", q[2 * PAGE]);
}

static void shared_file(void) {
  int file = memfd_create("shared", 0);
  ftruncate(file, 3 * PAGE);
  char *a = mmap(0, 3 * PAGE, 3, MAP_SHARED, file, 0);
  char *b = mmap(0, 2 * PAGE, 3, MAP_SHARED, file, PAGE);
  strcpy(a + PAGE, "first");
  char *c = mmap(0, PAGE, 3, MAP_PRIVATE, file, PAGE);
  c[0] = 'F';
  pwrite(file, "third", 6, 2 * PAGE);
  ftruncate(file, 6 * PAGE);
  char *d = mremap(b, 2 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
  strcpy(d + 4 * PAGE, "grown");
  char last[6];
  pread(file, last, 6, 5 * PAGE);
  madvise(a, PAGE, MADV_REMOVE);
  char *e = mremap(a, 0, 3 * PAGE, MREMAP_MAYMOVE);
  printf("%s %s %s %s %s\n", d, c, d + PAGE, last, e == MAP_FAILED ? "-" : e + PAGE);
}

static void twice(void) {
  static const unsigned char code[] = {0xb8, 1, 0, 0, 0, 0x83, 0xc0, 0, 0xc3};
  int file = memfd_create("code", 0);
  ftruncate(file, PAGE);
  unsigned char *w = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  unsigned char *x = mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  memcpy(w + 32, code, sizeof code);
  int (*function)(void) = (int (*)(void))(x + 32);
  int sum = 0;
  for (int i = 0; i < 200; i++) {
    w[33] = i;
    w[32 + 7] = i & 63;
    sum += function();
  }
  printf("%d\n", sum);
}

int main(void) {
  remap();
  shared_file();
  twice();
  return 0;
}
