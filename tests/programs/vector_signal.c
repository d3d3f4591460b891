/* All vector registers and masks are live while a timer's signals come, whose handler overwrites
 * them; they must be back afterwards. Uses what the processor has: AVX-512, AVX, or SSE. */
#include <cpuid.h>
#include <immintrin.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t signals;

__attribute__((target("avx512f,avx512bw"))) static void overwrite512(void) {
  asm volatile("vpternlogd $255, %%zmm0, %%zmm0, %%zmm0\n\tvmovdqa64 %%zmm0, %%zmm17\n\t"
               "vmovdqa64 %%zmm0, %%zmm31\n\tkxorq %%k1, %%k1, %%k1\n\tkxnorq %%k3, %%k3, %%k3"
               ::: "xmm0", "xmm17", "xmm31", "k1", "k3");
}

static int has512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

static void handler(int signal) {
  (void)signal;
  signals++;
  if (has512()) overwrite512();
  else asm volatile("pcmpeqd %%xmm0, %%xmm0\n\tmovdqa %%xmm0, %%xmm15" ::: "xmm0", "xmm15");
}

__attribute__((target("avx512f,avx512bw"))) static int wait512(void) {
  static unsigned char in[64], out[3][64];
  unsigned long mask1, mask3;
  for (int i = 0; i < 64; i++) in[i] = i * 7 + 1;
  asm volatile("vmovdqu64 %4, %%zmm0\n\tvpaddb %%zmm0, %%zmm0, %%zmm17\n\t"
               "vpaddb %%zmm17, %%zmm0, %%zmm31\n\tmovabs $0x123456789abcdef, %%rax\n\t"
               "kmovq %%rax, %%k1\n\tknotq %%k1, %%k3\n"
               "1:\tmov %7, %%eax\n\tcmp $5, %%eax\n\tjl 1b\n\t"
               "vmovdqu64 %%zmm0, %0\n\tvmovdqu64 %%zmm17, %1\n\tvmovdqu64 %%zmm31, %2\n\t"
               "kmovq %%k1, %3\n\tkmovq %%k3, %5"
               : "=m"(out[0]), "=m"(out[1]), "=m"(out[2]), "=&r"(mask1)
               : "m"(in), "r"(mask3 = 0), "i"(0), "m"(signals)
               : "rax", "xmm0", "xmm17", "xmm31", "k1", "k3", "memory");
  int wrong = memcmp(in, out[0], 64) || mask1 != 0x123456789abcdefUL;
  for (int i = 0; i < 64; i++) {
    wrong |= out[1][i] != (unsigned char)(2 * in[i]) || out[2][i] != (unsigned char)(3 * in[i]);
  }
  return wrong;
}

static int wait128(void) {
  unsigned char in[16], out[16];
  for (int i = 0; i < 16; i++) in[i] = i * 7 + 1;
  asm volatile("movdqu %1, %%xmm15\n1:\tmov %2, %%eax\n\tcmp $5, %%eax\n\tjl 1b\n\t"
               "movdqu %%xmm15, %0"
               : "=m"(out) : "m"(in), "m"(signals) : "rax", "xmm15", "memory");
  return memcmp(in, out, 16);
}

int main(void) {
  struct sigaction action = {.sa_handler = handler};
  sigaction(SIGALRM, &action, 0);
  struct itimerval timer = {{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &timer, 0);
  int wrong = has512() ? wait512() : wait128();
  printf("%s %s\n", has512() ? "avx512" : "sse", wrong ? "lost" : "kept");
  return wrong;
}
