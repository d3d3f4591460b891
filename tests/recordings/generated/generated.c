/* Generates functions with conditional branches of all kinds and calls them: in memory that is
 * writable and executable, in memory that is first one and then the other, and in shared memory
 * that is mapped twice. Each place is written again and again. Timers interrupt it inside of the
 * generated code. No C library, so that the recording is small.
 * How it is built and recorded stands in README.md beside this file. */
typedef unsigned long word;
typedef unsigned function(unsigned iterations, unsigned seed);

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

enum { WRITE = 1, MMAP = 9, MPROTECT = 10, SIGACTION = 13, SETITIMER = 38, FTRUNCATE = 77,
       EXIT_GROUP = 231, MEMFD_CREATE = 319 };
enum { READ_WRITE = 3, READ_EXECUTE = 5, ALL = 7, SHARED = 1, PRIVATE_ANONYMOUS = 0x22 };
enum { AREA = 8192, ROUNDS = 180, LONG_LOOP = 300000 };

static char line[64];

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

static void say(const char *what, word number)
{
    char *end = put_text(line, what);
    end = put_number(end, number);
    *end++ = '\n';
    call3(WRITE, 1, (long)line, end - line);
}

static volatile word alarms, noise;

/* The handler branches, too. */
static void on_alarm(int signal)
{
    alarms++;
    for (word i = 0; i < alarms % 7; i++)
        noise += i;
}

__asm__("restore:\n\tmov $15, %eax\n\tsyscall\n");
extern void restore(void);

static const unsigned char pieces[8][12] = {
    { 5, 0x05, 0x77, 0x66, 0x55, 0x04 },                   /* add $n, %eax */
    { 6, 0xa8, 0x01, 0x74, 0x02, 0xff, 0xc0 },             /* test $1, %al; jz 1f; inc %eax; 1: */
    { 7, 0xa8, 0x04, 0x75, 0x03, 0x83, 0xc0, 0x05 },       /* test $4, %al; jnz 1f; add $5, %eax; 1: */
    { 10, 0x39, 0xf0, 0x0f, 0x87, 2, 0, 0, 0, 0xd1, 0xe8 },/* cmp %esi, %eax; ja 1f; shr %eax; 1: */
    { 4, 0xe3, 0x02, 0xff, 0xc9 },                         /* jrcxz 1f; dec %ecx; 1: */
    { 2, 0x01, 0xf8 },                                     /* add %edi, %eax */
    { 9, 0xb9, 3, 0, 0, 0, 0xff, 0xc0, 0xe2, 0xfc },       /* mov $3, %ecx; 1: inc %eax; loop 1b */
    { 5, 0xc1, 0xc0, 0x05, 0x70, 0x00 },                   /* rol $5, %eax; jo 1f; 1: */
};

static unsigned char *put(unsigned char *at, const unsigned char *bytes, word count)
{
    while (count--)
        *at++ = *bytes++;
    return at;
}

/* A loop around some of the pieces. */
static void generate(unsigned char *at, word random)
{
    static const unsigned char head[] = { 0x31, 0xc0, 0x89, 0xf1 }; /* xor %eax,%eax; mov %esi,%ecx */
    static const unsigned char tail[] = { 0xff, 0xcf, 0x0f, 0x85 }; /* dec %edi; jnz */
    unsigned char *top = at = put(at, head, sizeof head);
    for (word count = 1 + random % 5; count; count--) {
        random >>= 3;
        at = put(at, pieces[random & 7] + 1, pieces[random & 7][0]);
    }
    at = put(at, tail, sizeof tail);
    int back = top - (at + 4);
    at = put(at, (unsigned char *)&back, 4);
    *at = 0xc3;
}

static unsigned char *map(long protection, long flags, long file)
{
    return (unsigned char *)call6(MMAP, 0, AREA, protection, flags, file, 0);
}

void program(void)
{
    struct { void *handler; word flags; void *restorer; word mask; } action =
        { on_alarm, 0x04000000, restore, 0 };
    call6(SIGACTION, 14, (long)&action, 0, 8, 0, 0);
    word once[4] = { 0, 0, 0, 200 };

    long file = call3(MEMFD_CREATE, (long)"generated", 0, 0);
    call3(FTRUNCATE, file, AREA, 0);
    unsigned char *both = map(ALL, PRIVATE_ANONYMOUS, -1);
    unsigned char *either = map(READ_WRITE, PRIVATE_ANONYMOUS, -1);
    unsigned char *writable = map(READ_WRITE, SHARED, file);
    unsigned char *executable = map(READ_EXECUTE, SHARED, file);

    word random = 2026, sum = 0;
    for (word round = 0; round < ROUNDS; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        word place = round * 80 % (AREA - 80);
        unsigned char *to = round % 3 == 0 ? both : round % 3 == 1 ? either : writable;
        unsigned char *from = round % 3 == 2 ? executable : to;
        if (to == either)
            call3(MPROTECT, (long)either, AREA, READ_WRITE);
        generate(to + place, random >> 30);
        if (to == either)
            call3(MPROTECT, (long)either, AREA, READ_EXECUTE);
        unsigned iterations = 1 + (random >> 20) % 400;
        if (round % 20 == 11) {
            iterations = LONG_LOOP;
            call3(SETITIMER, 0, (long)once, 0);
        }
        sum = sum * 31 + ((function *)(from + place))(iterations, round);
        if (round % 60 == 59)
            say("sum ", sum);
    }
    say("interrupted: ", alarms != 0);
    call3(EXIT_GROUP, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall program\n\thlt\n");
