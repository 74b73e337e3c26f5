import { describe, expect, it } from "vitest";
import { sha256 } from "./digest.ts";

describe("sha256", () => {
  it("gives the standard's example, in parts as in one", () => {
    // FIPS 180-4, example for "abc".
    const expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const digest = sha256();
    digest.update(Uint8Array.of(0x61));
    digest.update(Uint8Array.of(0x62, 0x63));
    expect(digest.hex()).toBe(expected);
  });
});
