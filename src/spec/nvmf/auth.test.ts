import fc from "fast-check";
import { expect, it } from "vitest";
import {
  AuthId,
  decodeAuthHeader,
  decodeChallenge,
  decodeNegotiate,
  decodeReply,
  decodeSuccess1,
  describeAuthFailure,
  encodeAuthFailure,
  encodeChallenge,
  encodeNegotiate,
  encodeReply,
  encodeSuccess1,
  encodeSuccess2,
} from "./auth.ts";

const u16 = fc.nat(0xffff);
const u8 = fc.nat(0xff);
const bytes = (maxLength: number) => fc.uint8Array({ maxLength });

it("messages of any bytes are decoded inside their bounds, or not at all", () => {
  fc.assert(
    fc.property(bytes(400), u8, (message, first) => {
      if (message.length > 0) message[0] = first & 1;
      const challenge = decodeChallenge(message);
      if (challenge !== null) {
        const size = 16 + challenge.challenge.length + challenge.dhValue.length;
        expect(size).toBeLessThanOrEqual(message.length);
      }
      const reply = decodeReply(message);
      if (reply !== null) {
        const size = 16 + 2 * reply.response.length + reply.dhValue.length;
        expect(size).toBe(message.length);
      }
      const success = decodeSuccess1(message);
      expect(success?.response?.length ?? 0).toBeLessThanOrEqual(Math.max(0, message.length - 16));
      const negotiate = decodeNegotiate(message);
      if (negotiate !== null) expect((message.length - 8) % 64).toBe(0);
      decodeAuthHeader(message);
      describeAuthFailure(message);
    }),
    { seed: 4, numRuns: 500 },
  );
});

it("what is encoded is decoded", () => {
  const list = (maxLength: number) => fc.array(u8, { maxLength });
  fc.assert(
    fc.property(u16, list(30), list(30), fc.nat(2), (transaction, hashes, groups, sc) => {
      const message = { transaction, concatenation: sc, dhchap: { hashes, groups } };
      expect(decodeNegotiate(encodeNegotiate(message))).toEqual(message);
    }),
    { seed: 1, numRuns: 100 },
  );
  fc.assert(
    fc.property(u16, u8, bytes(64), bytes(300), fc.boolean(), (transaction, hash, a, dh, both) => {
      const common = { transaction, dhValue: dh, sequence: 0xfedcba98 };
      const challenge = { ...common, hash, group: 3, challenge: a };
      expect(decodeChallenge(encodeChallenge(challenge))).toEqual(challenge);
      const reply = { ...common, response: a, challenge: both ? a : null };
      expect(decodeReply(encodeReply(reply))).toEqual(reply);
      const success = { transaction, hashBytes: a.length, response: both ? a : null };
      expect(decodeSuccess1(encodeSuccess1(success))).toEqual(success);
    }),
    { seed: 2, numRuns: 100 },
  );
});

it("has the layout of the specification", () => {
  // NVM Express Base Specification 2.0, section 8.13.5: bytes by hand.
  const hex = (message: Uint8Array): string => Buffer.from(message).toString("hex");
  const dhchap = { hashes: [1, 3], groups: [0, 2] };
  const negotiate = hex(encodeNegotiate({ transaction: 0x1234, concatenation: 0, dhchap }));
  expect(negotiate.slice(0, 28)).toBe("0000000034120001" + "01000202" + "0103");
  expect(negotiate.slice(2 * (8 + 34), 2 * (8 + 36))).toBe("0002");
  expect(negotiate.length).toBe(2 * 72);
  const challenge = Uint8Array.of(0xaa, 0xbb);
  const dhValue = Uint8Array.of(0xcc);
  const common = { transaction: 2, sequence: 7, dhValue };
  expect(hex(encodeChallenge({ ...common, hash: 1, group: 2, challenge }))).toBe(
    "01010000" + "02000200" + "01020100" + "07000000" + "aabbcc",
  );
  expect(hex(encodeReply({ ...common, response: challenge, challenge: dhValue }))).toBe(
    "01020000" + "02000200" + "01000100" + "07000000" + "aabb" + "cc00" + "cc",
  );
  expect(hex(encodeSuccess1({ transaction: 2, hashBytes: 2, response: challenge }))).toBe(
    "01030000" + "02000200" + "01000000" + "00000000" + "aabb",
  );
  expect(hex(encodeSuccess2(2))).toBe("01040000" + "02000000" + "00000000" + "00000000");
  expect(hex(encodeAuthFailure(AuthId.failure1, 2, 6))).toBe("00f10000" + "02000106");
});
