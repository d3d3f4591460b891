import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const css = readFileSync(new URL("./tokens.css", import.meta.url), "utf8");

function tokens(selector: string): Map<string, string> {
  const block = css.slice(css.indexOf(selector)).split("}")[0] ?? "";
  return new Map([...block.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6})/g)].map((it) => [it[1] ?? "", it[2] ?? ""]));
}

function luminance(colour: string): number {
  const part = (at: number) => {
    const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
}

function contrast(a: string, b: string): number {
  const [high = 0, low = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

const TEXTS = ["text", "dim", "accent", "strong", "weak", "changed", "error", "warn", "type", "function", "comment"];
const GROUNDS = ["bg", "panel", "raised", "focus-bg"];

test.each([":root {", ':root[data-theme="dark"]'])("text can be read in %s", (selector) => {
  const all = tokens(selector);
  const low: string[] = [];
  for (const text of TEXTS) {
    for (const ground of GROUNDS) {
      const ratio = contrast(all.get(text) ?? "", all.get(ground) ?? "");
      if (!(ratio >= 4.5)) low.push(`${text} on ${ground}: ${ratio.toFixed(2)}`);
    }
  }
  expect(low).toEqual([]);
});

test("marks of tasks and notes can be seen", () => {
  for (const selector of [":root {", ':root[data-theme="dark"]']) {
    const all = tokens(selector);
    for (const [name, colour] of all) {
      if (!/^(task|note)-/.test(name)) continue;
      expect(contrast(colour, all.get("bg") ?? ""), name).toBeGreaterThanOrEqual(2.4);
    }
  }
});

test("no colour is named elsewhere", () => {
  for (const name of ["page", "parts", "views"]) {
    const text = readFileSync(new URL(`./${name}.css`, import.meta.url), "utf8");
    expect(text.match(/#[0-9a-f]{3,8}\b|rgb|hsl/gi), name).toBeNull();
  }
});
