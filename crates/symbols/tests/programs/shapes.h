/* Shared by two units: a type, an inline function. */
#ifndef SHAPES_H
#define SHAPES_H
enum colour { RED, GREEN = 5, BLUE };
struct point { int x, y; };
struct shape {
    const char *name;
    struct point corners[4];
    unsigned flags : 3;
    unsigned kind : 5;
    signed delta : 7;
    enum colour colour;
    union { double area; unsigned char raw[8]; };
    struct shape *next;
    int (*measure)(const struct shape *, int);
};
static inline int squared(int value) {
    int result = value * value;
    return result;
}
int measure_all(const struct shape *shapes, int count);
extern int total_measured;
#endif
