import { expect, test } from "vitest";
import { grouped, placeText, shortName } from "./text";

test("names are shortened at their templates", () => {
  expect(shortName("std::vector<int, std::allocator<int>>::push_back")).toBe("std::vector<…>::push_back");
  expect(shortName("operator<< <char>")).toBe("operator<< <…>");
  expect(shortName("A::operator->")).toBe("A::operator->");
  expect(shortName("main")).toBe("main");
});

test("places and numbers", () => {
  expect(placeText({ function: "main", line: 7, file: "/a.c" })).toBe("main:7");
  expect(placeText({ function: "f", module: "/lib/libc.so.6" })).toBe("f in libc.so.6");
  expect(placeText({ address: "0x10" })).toBe("0x10");
  expect(grouped("1234567")).toBe("1,234,567");
});
