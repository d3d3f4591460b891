/* A whole program without a C library, so that its recording is small: sorts a table, formats
 * numbers, maps and moves memory, uses string and vector instructions, reads the clock.
 * How it is built and recorded stands in README.md beside this file. */
typedef unsigned long word;

static long call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long call3(long number, long a, long b, long c)
{
    return call6(number, a, b, c, 0, 0, 0);
}

enum { WRITE = 1, MMAP = 9, MPROTECT = 10, MUNMAP = 11, BRK = 12, MREMAP = 25, CLOCK_GETTIME = 228,
       EXIT_GROUP = 231 };

struct item { word key; double weight; char name[16]; };

static struct item items[200];
static char line[256];

static void copy_bytes(void *to, const void *from, word count)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void fill_words(word *to, word value, word count)
{
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}

static char *put_text(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

static char *put_number(char *at, word number)
{
    if (number >= 10)
        at = put_number(at, number / 10);
    *at = '0' + number % 10;
    return at + 1;
}

static int before(const struct item *a, const struct item *b)
{
    return a->key != b->key ? a->key < b->key : a->weight < b->weight;
}

static void sort(struct item *first, long count)
{
    if (count < 2)
        return;
    struct item pivot = first[count / 2];
    long low = 0, high = count - 1;
    while (low <= high) {
        while (before(&first[low], &pivot))
            low++;
        while (before(&pivot, &first[high]))
            high--;
        if (low <= high) {
            struct item other = first[low];
            first[low++] = first[high];
            first[high--] = other;
        }
    }
    sort(first, high + 1);
    sort(first + low, count - low);
}

static double mean(const struct item *first, long count)
{
    double sum = 0;
    for (long i = 0; i < count; i++)
        sum += first[i].weight;
    return sum / count;
}

static void say(const char *what, word number)
{
    char *end = put_text(line, what);
    end = put_number(end, number);
    *end++ = '\n';
    call3(WRITE, 1, (long)line, end - line);
}

static word checksum(const word *words, word count)
{
    word sum = 0;
    for (word i = 0; i < count; i++)
        sum = sum * 31 + words[i];
    return sum;
}

void program(void)
{
    word random = 12345;
    for (int i = 0; i < 200; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        items[i].key = random >> 60;
        items[i].weight = (double)(random >> 40) / 16.0;
        char *end = put_text(items[i].name, "item ");
        *put_number(end, i) = 0;
    }
    sort(items, 200);
    say("smallest key ", items[0].key);
    say("mean weight ", (word)mean(items, 200));

    /* Anonymous memory: filled, moved, grown, made read-only, given back. */
    word *block = (word *)call6(MMAP, 0, 8192, 3, 0x22, -1, 0);
    fill_words(block, 0x0123456789abcdef, 1024);
    copy_bytes((char *)block + 1001, items, sizeof items);
    word sum = checksum(block, 1024);
    block = (word *)call6(MREMAP, (long)block, 8192, 65536, 1, 0, 0);
    block[8191] = sum;
    call3(MPROTECT, (long)block, 65536, 1);
    say("checksum ", checksum(block, 8192));
    call3(MUNMAP, (long)block, 65536, 0);

    /* The heap. */
    char *heap = (char *)call3(BRK, 0, 0, 0);
    call3(BRK, (long)heap + 4096, 0, 0);
    copy_bytes(heap, items, 4096);
    say("heap ", checksum((word *)heap, 512));

    word time[2];
    call3(CLOCK_GETTIME, 1, (long)time, 0);
    unsigned low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    say("clock is ", time[0] != 0 || time[1] != 0 || low != 0 || high != 0);
    call3(EXIT_GROUP, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall program\n\thlt\n");
