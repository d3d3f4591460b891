import { expect, test } from "vitest";
import { Colours, expressionAt } from "./colours";
import { languageOf } from "./languages";

const kinds = (file: string, text: string) => {
  const colours = new Colours(text.split("\n"), languageOf(file));
  const lines = text.split("\n").map((_, n) => colours.line(n));
  return lines.map((line) => line.filter((it) => it.kind).map((it) => `${it.text}:${it.kind}`));
};

test("lines are coloured, comments over several too", () => {
  const [first, second, third] = kinds("a.c", "static long x = 7; /* a\nb */ return f(x);\n// int");
  expect(first).toContain("static:keyword");
  expect(first).toContain("long:type");
  expect(first?.at(-1)).toBe("/* a:comment");
  expect(second?.[0]).toBe("b */:comment");
  expect(second).toContain("f:name function");
  expect(third).toEqual(["// int:comment"]);
  expect(kinds("a.rs", 'let s = "x";')[0]).toContain("let:keyword");
});

test("the text stays as it is", () => {
  const text = "\tint\u00a0a[] = {1,2};  // ü\n#define X(a) a##b\n\n'\\''";
  const colours = new Colours(text.split("\n"), languageOf("x.cpp"));
  const again = text.split("\n").map((_, n) => colours.line(n).map((it) => it.text).join(""));
  expect(again.join("\n")).toBe(text);
});

test("a line far down is known in time", () => {
  const lines = Array.from({ length: 100_000 }, (_, n) => (n === 0 ? "/*" : n === 50_000 ? "*/ int a;" : "x"));
  const colours = new Colours(lines, languageOf("a.c"));
  const begun = performance.now();
  while (!colours.reach(99_999, 4000));
  expect(performance.now() - begun).toBeLessThan(2000);
  expect(colours.line(49_999)).toEqual([{ text: "x", kind: "comment" }]);
  expect(colours.line(99_999)).toEqual([{ text: "x", kind: "name" }]);
});

test("names with what they are members of", () => {
  const at = (line: string, name: string) => expressionAt(line, line.lastIndexOf(name), name);
  expect(at("  e->note[0] = x", "note")).toBe("e->note");
  expect(at("a.b[i].c + 1", "c")).toBe("a.b[i].c");
  expect(at("f(x, std::y)", "y")).toBe("std::y");
  expect(at("f(x)", "x")).toBe("x");
  expect(at("1 + a - b", "b")).toBe("b");
});
