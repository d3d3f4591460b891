/* Scalars, structures, arrays, unions of C. */
#include <complex.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <emmintrin.h>

enum colour { RED, GREEN = 5, BLUE };
enum flags { NONE = 0, READ = 1, WRITE = 2, EXECUTE = 4 };
typedef struct note {
    int serial;
    char text[12];
    long balance;
    struct note *next;
    enum colour colour;
    unsigned low : 3;
    signed delta : 7;
    unsigned wide : 20;
    union {
        double area;
        unsigned char raw[8];
    };
    struct {
        int inner_x, inner_y;
    } point;
} note_t;
struct hidden;

static int calls = 41;
__thread int per_thread = 9;
const char *const names[] = {"one", "two", NULL};
int matrix[2][3] = {{1, 2, 3}, {4, 5, 6}};

int twice(int value) { return 2 * value; }

static long set_note(note_t *e, int amount, struct hidden *secret, int count) {
    int row[count];
    for (int i = 0; i < count; i++)
        row[i] = i * amount;
    e->balance += amount + row[1];
    calls++;
    return e->balance + (secret != 0); /* STOP */
}

int main(int argc, char **argv) {
    bool yes = true;
    signed char tiny = -5;
    unsigned char byte = 200;
    short small = -300;
    unsigned short usmall = 60000;
    unsigned int large = 4000000000u;
    long long longer = -5000000000ll;
    uint64_t huge = UINT64_MAX;
    __int128 wide = -((__int128)1 << 100);
    unsigned __int128 uwide = ((unsigned __int128)1 << 127) + 7;
    float single = 0.1f;
    double number = 1e300, whole = 100;
    long double precise = 1.1L;
    double _Complex complex_number = 1.5 + 2.5 * I;
    __m128 vector = _mm_set_ps(4, 3, 2, 1);
    char letter = 'x';
    wchar_t wide_letter = L'\u00e9';
    const char *text = "hello \"you\"\n";
    const wchar_t *wide_text = L"wide";
    const char *nothing = NULL;
    enum colour colour = BLUE, strange = 17;
    enum flags access = READ | EXECUTE;
    int (*function)(int) = twice;
    int (*table[2])(int) = {twice, NULL};
    note_t notes[2];
    memset(notes, 0, sizeof notes);
    notes[0].serial = 10;
    strcpy(notes[0].text, "rent");
    notes[0].balance = 777;
    notes[0].next = &notes[1];
    notes[0].colour = GREEN;
    notes[0].low = 5;
    notes[0].delta = -3;
    notes[0].wide = 0xabcde;
    notes[0].area = 2.5;
    notes[0].point.inner_y = 4;
    notes[1].next = notes;
    int *inside = &matrix[1][1];
    void *anything = notes;
    char full[4] = {'a', 'b', 'c', 'd'};
    volatile int counter = 7;
    int x = 3, y = 4;
    {
        int x = 30;
        per_thread += x + y;
    }
    long sum = set_note(&notes[0], 5, (struct hidden *)1, 3);
    printf("%ld %d %s %d\n", sum, per_thread, text, function(counter) + table[0](x)); /* STOP */
    printf("%p %p %d %f %d\n", (void *)inside, anything, argc, (double)single, full[0]);
    return (int)(tiny + byte + small + usmall + large + longer + huge + wide + uwide + yes + number
        + whole + precise + creal(complex_number) + vector[0] + letter + wide_letter + *wide_text
        + (nothing != NULL) + colour + strange + access + argv[0][0]) == 12345;
}
