// @vitest-environment node
import { expect, test } from "vitest";

// What this module touches of the page.
Object.assign(globalThis, {
  window: { innerWidth: 1440 },
  localStorage: { getItem: () => null, setItem: () => {} },
});
const { hashOf, parse } = await import("./url");
const { read } = await import("./layout");

const known = () => true;

test("a focus is written as it was read", () => {
  for (const hash of [
    "#m=146021&t=1&f=145310.0",
    "#m=146021&t=1&f=145310.0&d=e-%3Ebalance",
    "#m=5&d=%40,x:y&da=7/1/3.0",
    "#m=0",
  ]) {
    const it = parse(hash, known);
    expect(it.bad).toEqual([]);
    const node = read("r(57:source,43:stack)", known);
    if (!node) throw new Error("layout");
    expect(hashOf(it.whole, node)).toBe(`${hash}&l=r(57:source,43:stack)`);
  }
});

test("bad parts are named and dropped", () => {
  expect(parse("#m=99999999999999999999", known).bad).toEqual(["moment 99999999999999999999"]);
  expect(parse("#m=1&t=x&f=<b>", known).bad).toEqual(["task x", "frame <b>"]);
  expect(parse("#m=1&d=%zz", known).bad).toEqual(["data"]);
  expect(parse("#l=r(", known).bad).toEqual(["layout"]);
  expect(parse("", known)).toEqual({ whole: null, layout: null, bad: [] });
});
