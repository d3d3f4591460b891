import { beforeEach, expect, test } from "vitest";
import { close, DEFAULT_LARGE, DEFAULT_SMALL, layout, move, panes, read, show, write } from "./layout";

const known = (view: string) => /^[a-z]+$/.test(view) && view !== "nonsense";
const parsed = (text: string) => {
  const node = read(text, known);
  if (!node) throw new Error(text);
  return node;
};

test("layouts are written as they were read", () => {
  for (const text of [
    DEFAULT_SMALL,
    DEFAULT_LARGE,
    "source",
    "r(58:c(70:source,30:*output+alerts),42:stack)",
    "executions~line%3A%2Fsrc%2Fa%28b%29.c%3A51",
  ]) {
    expect(write(parsed(text))).toBe(text);
  }
});

test("what is unknown or no layout is left out", () => {
  expect(write(parsed("r(50:nonsense,50:source+nonsense)"))).toBe("source");
  const deep = `${"r(1:".repeat(5000)}source`;
  for (const text of ["", "nonsense", "r(", "r(1:source", "r(source)", "source)", deep, "a%zz~%"]) {
    expect(read(text, known), text.slice(0, 20)).toBeNull();
  }
});

beforeEach(() => {
  layout.value = parsed("r(60:c(70:source,30:*output+alerts),40:*stack+locals)");
});

test("a view opens where its companions are, once", () => {
  show("executions", "function:main");
  show("executions", "function:add");
  expect(write(layout.value)).toContain("output+alerts+*executions~function%3Aadd");
  show("executions");
  expect(write(layout.value)).toContain("executions~function%3Aadd");
  show("executions", null);
  expect(write(layout.value)).toContain("output+alerts+*executions)");
});

test("tabs move, and panes without tabs are gone", () => {
  const [source, output, stack] = panes(layout.value);
  if (!source || !output || !stack) throw new Error("three panes");
  move(output, 1, source, "right");
  expect(write(layout.value)).toBe("r(60:c(70:r(50:source,50:alerts),30:output),40:*stack+locals)");
  close(panes(layout.value)[0] as never, 0);
  expect(write(layout.value)).toBe("r(60:c(70:alerts,30:output),40:*stack+locals)");
  layout.value = parsed("source");
  close(panes(layout.value)[0] as never, 0);
  expect(write(layout.value)).toBe("source");
});
