#include "shapes.h"

int total_measured;

static inline __attribute__((always_inline)) int one(const struct shape *shape, int scale) {
    int measured = shape->measure(shape, scale);
    return squared(measured) > 100 ? 100 : measured;
}

int measure_all(const struct shape *shapes, int count) {
    int total = 0;
    for (int i = 0; i < count; i++) {
        total += one(&shapes[i], i);
        if (total > 1000)
            goto done;
    }
done:
    total_measured += total;
    return total;
}
