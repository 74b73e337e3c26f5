import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PeerlaneError } from "../core/index.ts";
import { unxz } from "./index.ts";
import { decodeXz, XzError, XzLimitError } from "./xz.ts";

/** Made with xz 5 -9e: a repeated word, 64 random bytes, numbered runs; CRC64. */
const PACKED = Uint8Array.from(
  Buffer.from(
    [
      "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4AJwAJRdADgZbORu1Jd2IpyX9WvHvW1kDN65BzNezCvqNJcS4ui4St+v",
      "j2VvSPARPbM+xbtEE6vv25XESedHdGXJfyWGzn3tTkdFTndf8XIvBN1H8zsQoZNos3vFiwaytEgIfDBbDf9DflEy",
      "g5ltcorAxH3qsS/LeKZcVCo4TPI6bLIpuPWLXdqWV5D4Y8HW1VYcLB3qGfTOfAAAGBoqHuZvvu0AAbAB8QQAAAY3",
      "LN2xxGf7AgAAAAAEWVo=",
    ].join(""),
    "base64",
  ),
);
const PLAIN_BYTES = 625;

describe("an xz file", () => {
  it("is decoded whole, and so are several after one another, with padding between", () => {
    const plain = Buffer.from(decodeXz(PACKED, 10_000)).toString("latin1");
    expect(plain.length).toBe(PLAIN_BYTES);
    expect(plain.startsWith("peerlane ".repeat(40))).toBe(true);
    expect(plain.endsWith("aaaab28aaaab29aaaab30")).toBe(true);
    const twice = Buffer.concat([PACKED, Buffer.alloc(8), PACKED]);
    expect(decodeXz(twice, 10_000).length).toBe(2 * PLAIN_BYTES);
  });

  it("stops at its limit, with place and remedy", async () => {
    expect(() => decodeXz(PACKED, 100)).toThrow(XzLimitError);
    const refused = await unxz(PACKED, 100, "a.tar.xz").catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(PeerlaneError);
    expect(refused).toMatchObject({ code: "archive-too-large", place: "a.tar.xz" });
  });

  it("that was cut anywhere is refused", () => {
    for (let end = 0; end < PACKED.length; end++) {
      expect(() => decodeXz(PACKED.subarray(0, end), 10_000), String(end)).toThrow(XzError);
    }
  });

  it("with any bits changed is refused: checksums cover all of it", () => {
    const change = fc.tuple(fc.nat(PACKED.length - 1), fc.nat(7));
    fc.assert(
      fc.property(fc.uniqueArray(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const bytes = Uint8Array.from(PACKED);
        for (const [at, bit] of changes) bytes[at] ^= 1 << bit;
        expect(() => decodeXz(bytes, 10_000)).toThrow();
      }),
      { seed: 21, numRuns: 400 },
    );
  });
});
