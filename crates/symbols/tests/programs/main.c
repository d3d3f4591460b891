#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shapes.h"

typedef unsigned long long counter_t;
static counter_t calls;
_Thread_local int per_thread = 7;
int matrix[3][4];
volatile int sink;

static int measure(const struct shape *shape, int scale) {
    int sum = 0;
    calls++;
    for (int i = 0; i < 4; i++) {
        struct point p = shape->corners[i];
        sum += squared(p.x) + squared(p.y) * scale;
        {
            int sum = p.x;
            sink += sum;
        }
    }
    return sum;
}

__attribute__((noinline)) static long variadic(int count, ...) {
    __builtin_va_list list;
    long sum = 0;
    __builtin_va_start(list, count);
    for (int i = 0; i < count; i++)
        sum += __builtin_va_arg(list, long);
    __builtin_va_end(list);
    return sum;
}

__attribute__((noinline)) double blend(double a, float b, char c, short d, long e, __int128 f) {
    double local = a * b + c - d;
    static int uses;
    uses++;
    return local + (double)e + (double)f;
}

int main(int argc, char **argv) {
    struct shape shapes[2];
    memset(shapes, 0, sizeof shapes);
    for (int i = 0; i < 2; i++) {
        shapes[i].name = argv[0];
        shapes[i].measure = measure;
        shapes[i].flags = i + 1;
        shapes[i].colour = GREEN;
        shapes[i].corners[2].x = argc + i;
    }
    matrix[1][2] = measure_all(shapes, 2);
    per_thread += argc;
    printf("%d %llu %d %ld\n", matrix[1][2], calls, total_measured, variadic(3, 1L, 2L, 3L));
    printf("%f\n", blend(1.5, 2.5f, 'c', 4, 5, 6));
    return 0;
}
