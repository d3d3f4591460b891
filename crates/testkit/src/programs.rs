//! Real programs to run, with inputs that are the same every time.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Program;

const SCRIPT: &str = r#"
i=0; total=0; text=""
while [ $i -lt 400 ]; do
    i=$((i + 1)); total=$((total + i * i % 7))
    case $i in *7) text="$text-$i";; *[02468]) text="${text#?}x";; esac
    set -- $i $total "$text"
    f() { local a="$1"; eval "b=\$((a * 3))"; }; f $i
done
printf '%s %s\n' "$total" "$text"
"#;

const PYTHON: &str = "
import re, json, math, hashlib
d = {str(i): [i * j for j in range(9)] for i in range(60)}
s = json.dumps(d); assert json.loads(s) == d
print(re.sub(r'(\\d+), (\\d+)', r'\\2-\\1', s)[:50], hashlib.md5(s.encode()).hexdigest())
print(sum(math.sin(x) ** 2 for x in range(300)), 7 ** 321 % 1000007, '%.12g' % (1 / 3))
";

const SQL: &str = "
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i+1 from n where i<300)
  insert into t select i, printf('%d-%s', i*i%97, hex(i)), i*1.5/7 from n;
create index tb on t(b);
select count(*), sum(c), max(b), group_concat(a%10,'') from t where b like '%3%';
select b, avg(c) from t group by substr(b,1,1) order by 2 desc limit 5;
update t set c=c*c where a%3=0; delete from t where b<'3';
select round(sum(c),6), total(length(b)) from t t1 where exists(select 1 from t t2 where t2.a=t1.a+1);
";

const SMALL_C: &str = r#"
struct list { struct list *next; int value; double weight; };
static int table[64];
int sum(struct list *l) { int s = 0; for (; l; l = l->next) s += l->value * 3 + table[s & 63]; return s; }
double poly(double x, int n) { double r = 1; while (n-- > 0) r = r * x + n; return r; }
void sort(int *a, int n) { for (int i = 0; i < n; i++) for (int j = i; j > 0 && a[j-1] > a[j]; j--) { int t = a[j]; a[j] = a[j-1]; a[j-1] = t; } }
"#;

/// Vector, x87 and bit manipulation code, compiled for this host.
const VECTOR_C: &str = r#"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
static float a[512], b[512], c[512]; static double d[256]; static unsigned char s[4096]; static int n[512], idx[512];
static long double horner(long double x) { long double r = 1; for (int i = 1; i < 24; i++) r = r * x / i + sinl(x); return r; }
__attribute__((noinline)) static void gather(int k) { for (int i = 0; i < 512; i++) n[i] += idx[(n[i] ^ k) & 511] * (i & 3 ? 1 : k); }
__attribute__((noinline)) static void cond(void) { for (int i = 0; i < 512; i++) if (a[i] > b[i]) c[i] += a[i] * b[i]; else n[i] = n[i] * 5 + 1; }
__attribute__((noinline)) static unsigned long bits(unsigned long x) { unsigned long r = 0; for (int i = 0; i < 200; i++) { x = x * 6364136223846793005ul + 1442695040888963407ul; r += __builtin_popcountl(x) + __builtin_clzl(x | 1) + __builtin_ctzl(x | 8); r ^= x & ~(x << 3); } return r; }
int main(void) {
  for (int i = 0; i < 512; i++) { a[i] = i * 0.25f; b[i] = 60 - i * 0.125f; n[i] = i * 77; idx[i] = (i * 37) & 511; }
  double total = 0; long double lt = 0; unsigned long h = 0;
  for (int round = 0; round < 60; round++) {
    gather(round); cond();
    for (int i = 0; i < 256; i++) { d[i] = sqrt(i + round) * d[(i + 1) & 255] / (1 + i) + exp(i * 0.001); total += d[i]; }
    lt += horner(round * 0.01L); h += bits(round);
    memset(s, round, 1000); memmove(s + 17, s, 3000); h += strlen((char *)s + 20) + (unsigned long)memchr(s, 7, 4096); for (int i = 0; i < 4096; i++) s[i] = s[i] * 3 + i;
    char t[128]; snprintf(t, sizeof t, "%.17g %Lg %d %lx", total, lt, n[round], h); h += strtod(t, 0) * 10;
  }
  printf("%g %Lg %lu %d\n", total, lt, h, n[77]); return 0;
}
"#;

/// A program with a name; `system_calls` is where something interesting begins.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: &'static str,
    pub program: Program,
    pub system_calls: u64,
}

/// The programs, their inputs written to `directory`. Fails where one is not installed.
pub fn samples(directory: &Path) -> Result<Vec<Sample>> {
    let put = |name: &str, text: &str| -> Result<String> {
        let path = directory.join(name);
        fs::write(&path, text)?;
        Ok(path.to_str().context("path is text")?.to_string())
    };
    let plain = "/usr/bin/gzip".to_string();
    let packed = directory.join("data.gz").to_str().context("path is text")?.to_string();
    let output = Command::new("gzip").args(["-9", "-n", "-c", "/usr/bin/dash"]).output()?;
    fs::write(&packed, output.stdout)?;
    let script = put("script.sh", SCRIPT)?;
    let small = put("small.c", SMALL_C)?;
    let vector = vector_program(directory)?;
    let mut sqlite = Program::new("/usr/bin/sqlite3", &["-batch", ":memory:"]);
    sqlite.input = Some(put("script.sql", SQL)?.into());
    let cc1 = Command::new("gcc").arg("-print-prog-name=cc1").output()?;
    let cc1 = String::from_utf8(cc1.stdout)?.trim().to_string();
    let python = Program::new("/usr/bin/python3", &["-I", "-S", "-c", PYTHON]);
    let sample = |name, program, system_calls| Sample { name, program, system_calls };
    Ok(vec![
        sample("dash", Program::new("/usr/bin/dash", &[&script]), 0),
        sample("gzip", Program::new("/usr/bin/gzip", &["-9", "-c", &plain]), 20),
        sample("gunzip", Program::new("/usr/bin/gzip", &["-d", "-c", &packed]), 20),
        sample("vector", Program::new(&vector, &[]), 10),
        sample("sqlite3", sqlite, 60),
        sample("python", python, 100),
        sample("cc1", Program::new(&cc1, &["-quiet", "-O2", &small, "-o", "/dev/null"]), 40),
    ])
}

fn vector_program(directory: &Path) -> Result<String> {
    let source = directory.join("vector.c");
    fs::write(&source, VECTOR_C)?;
    let program = directory.join("vector");
    let status = Command::new("gcc")
        .args(["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-w", "-o"])
        .args([&program, &source])
        .arg("-lm")
        .status()?;
    ensure!(status.success(), "gcc failed on {}", source.display());
    Ok(program.to_str().context("path is text")?.to_string())
}
