import { expect, test } from "vitest";
import { makePaint } from "./paint.ts";

test("text between codes, and text as it is", () => {
  expect(makePaint(true).bad("no")).toBe("\x1b[31mno\x1b[39m");
  expect(makePaint(true).bold("no")).toBe("\x1b[1mno\x1b[22m");
  expect(makePaint(false).bad("no")).toBe("no");
});

test("what is painted inside something painted ends where it ends", () => {
  const { bad, name, bold, dim } = makePaint(true);
  expect(bad(`a ${name("b")} c`)).toBe("\x1b[31ma \x1b[36mb\x1b[31m c\x1b[39m");
  expect(bold(`a ${dim("b")} c`)).toBe("\x1b[1ma \x1b[2mb\x1b[22m\x1b[1m c\x1b[22m");
});
