import { expect, it } from "vitest";
import { CRC32C_START, crc32c, crc32cFinish, crc32cUpdate } from "./crc32c.hot.ts";
import { Prng } from "./prng.ts";

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
it("has the published values", () => {
  expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i))).toBe(0x113fdb5c);
  expect(crc32c(new Uint8Array(0))).toBe(0);
});

it("does not depend on how the bytes are cut", () => {
  const bytes = new Uint8Array(100);
  new Prng(1).fill(bytes);
  const whole = crc32c(bytes);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const half = crc32cUpdate(CRC32C_START, bytes, 0, cut);
    expect(crc32cFinish(crc32cUpdate(half, bytes, cut, bytes.length - cut))).toBe(whole);
  }
});

it("is the same for long runs, wherever they lie, as byte by byte", () => {
  const bytes = new Uint8Array(3000);
  new Prng(2).fill(bytes);
  for (const [offset, length] of [
    [0, 512],
    [1, 513],
    [3, 1024],
    [7, 2990],
    [6, 519],
  ] as const) {
    let slow = CRC32C_START;
    for (let i = 0; i < length; i++) slow = crc32cUpdate(slow, bytes, offset + i, 1);
    expect(crc32c(bytes, offset, length)).toBe(crc32cFinish(slow));
    const inside = bytes.subarray(5);
    expect(crc32c(inside, 0, length)).toBe(crc32c(bytes, 5, length));
  }
});
