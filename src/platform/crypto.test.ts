import { createDiffieHellman } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Prng } from "../core/index.ts";
import {
  crc32,
  DhExchange,
  type DhGroupName,
  dhBytes,
  fromBase64,
  hkdf,
  hmac,
  type Random,
  sameSecret,
  toBase64,
} from "./crypto.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const unhex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const random = (seed: number): Random => {
  const prng = new Prng(seed);
  return (bytes) => prng.fill(bytes);
};

it("HMAC and HKDF are those of RFC 4231 and RFC 5869", () => {
  const key = new Uint8Array(20).fill(0x0b);
  expect(hex(hmac("sha256", key, new TextEncoder().encode("Hi There")))).toBe(
    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
  );
  // Test case 3: no salt, no info.
  const ikm = new Uint8Array(22).fill(0x0b);
  expect(hex(hkdf("sha256", ikm, new Uint8Array(0), 42))).toBe(
    "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
  );
  expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
});

it("base64 is taken whole or not at all", () => {
  const bytes = unhex("00ff10");
  expect(fromBase64(toBase64(bytes))).toEqual(bytes);
  for (const text of ["AP8", "AP8Q=", "A P8Q", "AP8!", "_-8Q"]) expect(fromBase64(text)).toBeNull();
});

it("secrets are compared whole", () => {
  const a = new Uint8Array([1, 2, 3]);
  expect(sameSecret(a, new Uint8Array([1, 2, 3]))).toBe(true);
  expect(sameSecret(a, new Uint8Array([1, 2, 4]))).toBe(false);
  expect(sameSecret(a, new Uint8Array([1, 2]))).toBe(false);
});

const GROUPS: readonly DhGroupName[] = [
  "ffdhe2048",
  "ffdhe3072",
  "ffdhe4096",
  "ffdhe6144",
  "ffdhe8192",
];

describe.each(GROUPS)("%s", (group) => {
  it("gives both sides one secret, and refuses values that fix it", () => {
    const a = new DhExchange(group, random(1));
    const b = new DhExchange(group, random(2));
    expect(a.publicValue.length).toBe(dhBytes(group));
    const secret = a.secret(b.publicValue);
    expect(secret?.length).toBe(dhBytes(group));
    expect(b.secret(a.publicValue)).toEqual(secret);
    const zero = new Uint8Array(dhBytes(group));
    const one = zero.slice();
    one[one.length - 1] = 1;
    const all = zero.slice().fill(0xff);
    for (const bad of [zero, one, all, new Uint8Array(0), new Uint8Array(dhBytes(group) + 1)]) {
      expect(a.secret(bad)).toBeNull();
    }
  });
});

it("knows p - 1, and its primes are those that OpenSSL has by name", () => {
  // RFC 7919, A.1: the first and last bytes of ffdhe2048.
  const a = new DhExchange("ffdhe2048", random(3));
  const p = unhex(
    "ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1d8b9c583ce2d3695a9e13641146433fb" +
      "cc939dce249b3ef97d2fe363630c75d8f681b202aec4617ad3df1ed5d5fd65612433f51f5f066ed0" +
      "856365553ded1af3b557135e7f57c935984f0c70e0e68b77e2a689daf3efe8721df158a136ade735" +
      "30acca4f483a797abc0ab182b324fb61d108a94bb2c8e3fbb96adab760d7f4681d4f42a3de394df4" +
      "ae56ede76372bb190b07a7c8ee0a6d709e02fce1cdf7e2ecc03404cd28342f619172fe9ce98583ff" +
      "8e4f1232eef28183c3fe3b1b4c6fad733bb5fcbc2ec22005c58ef1837d1683b2c6f34a26c1b2effa" +
      "886b423861285c97ffffffffffffffff",
  );
  const minusOne = p.slice();
  minusOne[255] = 0xfe;
  expect(a.secret(minusOne)).toBeNull();
  expect(a.secret(p)).toBeNull();
  // OpenSSL takes short exponents for groups that it knows by name, and for no others.
  const named = createDiffieHellman(p, 2);
  named.generateKeys();
  expect(named.getPrivateKey().length).toBeLessThan(33);
  const peer = Uint8Array.from(named.getPublicKey());
  expect(hex(a.secret(peer) as Uint8Array)).toBe(
    named.computeSecret(a.publicValue).toString("hex").padStart(512, "0"),
  );
});
