import { expect, test } from "vitest";
import { blocks, inlines } from "./markdown";

test("emphasis, code and links to a focus", () => {
  expect(inlines("a **b** *c* `d*e*` [there](#m=12)")).toEqual([
    { kind: "text", text: "a " },
    { kind: "strong", text: "b" },
    { kind: "text", text: " " },
    { kind: "emphasis", text: "c" },
    { kind: "text", text: " " },
    { kind: "code", text: "d*e*" },
    { kind: "text", text: " " },
    { kind: "link", text: "there", to: "#m=12" },
  ]);
});

test("what leads elsewhere, is HTML or does not end stays text", () => {
  for (const text of ["[x](javascript:alert(1))", "[x](https://a.example)", "[x](#l=source)", "<b>bold</b>", "2 * 3 * 4", "a ** b", "`"]) {
    expect(inlines(text)).toEqual([{ kind: "text", text }]);
  }
});

test("headings, lists, code and paragraphs", () => {
  expect(blocks("# Why\none\ntwo\n\n- a\n- `b`\n```\n# c\n```\nend")).toEqual([
    { kind: "heading", parts: [{ kind: "text", text: "Why" }] },
    { kind: "paragraph", parts: [{ kind: "text", text: "one\ntwo" }] },
    { kind: "list", items: [[{ kind: "text", text: "a" }], [{ kind: "code", text: "b" }]] },
    { kind: "code", text: "# c" },
    { kind: "paragraph", parts: [{ kind: "text", text: "end" }] },
  ]);
  expect(blocks("```\nopen")).toEqual([{ kind: "code", text: "open" }]);
});

test("every word stays, whatever is around it", () => {
  const words = (text: string) => text.replace(/[^a-z]/g, "");
  for (const piece of ["[", "*", "`", "**a", "[a](#m=", "`b*c[d](#m=e)"]) {
    const text = piece.repeat(20_000);
    const shown = inlines(text).map((it) => it.text + (it.kind === "link" ? it.to : "")).join("");
    expect(words(shown)).toBe(words(text));
  }
});
