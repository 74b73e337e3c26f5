import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Prng } from "../../core/index.ts";
import type { Random } from "../../platform/index.ts";
import {
  AuthFailure,
  AuthId,
  decodeAuthHeader,
  decodeChallenge,
  encodeNegotiate,
  encodeReply,
} from "../../spec/nvmf/index.ts";
import {
  AuthResponder,
  DHCHAP_GROUPS,
  deriveTlsPsk,
  dhchapResponse,
  generateDhchapKey,
  generateTlsKey,
  HostSecurity,
  parseDhchapKey,
  parseTlsIdentity,
  parseTlsKey,
  pskDigest,
  pskOfDigest,
  tlsKeyFor,
} from "../index.ts";

const HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";
const SUB = "nqn.2026-11.dev.peerlane:target";
const KEY_1 = "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
const KEY_0 = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
const KEY_3 =
  "DHHC-1:03:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMz" +
  "Q1Njc4OTo7PD0+P4zODhA=:";
const hex = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString("hex");
const run = (from: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (from + i) & 0xff);
const random = (seed: number): Random => {
  const prng = new Prng(seed);
  return (bytes) => prng.fill(bytes);
};

describe("keys", () => {
  it("read as nvme-cli writes them, and write as it does", () => {
    expect(hex(parseDhchapKey(KEY_1).bytes)).toBe(hex(run(0, 32)));
    expect(parseDhchapKey(KEY_3)).toMatchObject({ hash: "sha512" });
    // From libnvme's tests.
    const psk = parseTlsKey("NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:");
    expect(hex(psk.bytes).slice(0, 16)).toBe("5512dbb6737d0106");
    for (const hash of [null, "sha256", "sha384", "sha512"] as const) {
      expect(parseDhchapKey(generateDhchapKey(hash, random(1))).hash).toBe(hash);
    }
    expect(parseTlsKey(generateTlsKey(random(2))).bytes.length).toBe(32);
  });

  it("that are none are refused without being quoted", () => {
    const cut = `${KEY_1.slice(0, 20)}${KEY_1.slice(24)}`;
    const other = KEY_1.replace("AAEC", "AAED");
    const bad = [cut, other, KEY_1.slice(0, -1), "", "DHHC-1:09:AAAA:", KEY_1.replace("DHHC", "X")];
    for (const text of bad) {
      let message = "";
      try {
        parseDhchapKey(text, "hosts.yaml:3");
      } catch (error) {
        message = JSON.stringify(error);
      }
      expect(message).toMatch(/bad-key/);
      expect(message).not.toMatch(/AwQF/);
    }
    const secret = parseDhchapKey(KEY_1);
    expect(`${secret} ${JSON.stringify({ secret })}`).toBe('[secret] {"secret":"[secret]"}');
  });

  it("survive any text", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        for (const parse of [parseDhchapKey, parseTlsKey]) {
          expect(() => parse(`DHHC-1:01:${text}:`)).toThrow();
          expect(() => parse(text)).toThrow();
        }
      }),
      { seed: 5, numRuns: 300 },
    );
  });
});

describe("DH-HMAC-CHAP", () => {
  const names = { hostNqn: HOST, subsystemNqn: SUB };

  it("computes what an independent program computes (Python's hmac)", () => {
    const first = dhchapResponse({
      ...names,
      secret: parseDhchapKey(KEY_1),
      hash: "sha256",
      role: "HostHost",
      challenge: run(0xa0, 32),
      sequence: 0x01020304,
      transaction: 0x1234,
      dhSecret: null,
    });
    expect(hex(first)).toBe("2853c0a9a9bdae9023e3c48810251ce0c6abfd30d22d12e5ca9a82568c2b5922");
    const second = dhchapResponse({
      ...names,
      secret: parseDhchapKey(KEY_3),
      hash: "sha512",
      role: "Controller",
      challenge: run(0x30, 64),
      sequence: 0xfffffffe,
      transaction: 0xbeef,
      dhSecret: run(0, 256),
    });
    expect(hex(second)).toBe(
      "8f169a6ce627a28f6725fc9fc5444353b63c0bc196a908b415924a01d2082e58" +
        "04f8a8aa80c5918cb975a22c504f0ae7c7f8e12d754df6195b95fdc88beb7c4f",
    );
    const third = dhchapResponse({
      ...names,
      secret: parseDhchapKey(KEY_0),
      hash: "sha384",
      role: "HostHost",
      challenge: run(0x70, 48),
      sequence: 7,
      transaction: 1,
      dhSecret: run(0, 256),
    });
    expect(hex(third)).toBe(
      "66f434ea448642300850b3f807fd60b3e74930eaf0f2c6b7245ede84992da25f" +
        "d41304e8b3327d0fbd80d068642b35f1",
    );
  });

  function responder(keys = {}) {
    const security = new HostSecurity(random(3));
    security.set(HOST, { dhchapKey: parseDhchapKey(KEY_1), ...keys });
    const told: string[] = [];
    const made = new AuthResponder(names, security, {
      authenticated: () => told.push("authenticated"),
      authenticationFailed: (reason) => told.push(reason),
    });
    return { made, told };
  }

  const offer = (hashes: number[], groups: number[], concatenation = 0) =>
    encodeNegotiate({ transaction: 9, concatenation, dhchap: { hashes, groups } });

  it("takes the preferred of what is offered, and says what is not usable", () => {
    const { made } = responder({ dhchapHashes: ["sha384"], dhchapGroups: ["ffdhe2048"] });
    made.receive(offer([1, 2, 3], [0, 5, 1]));
    const challenge = decodeChallenge(made.take(4096) as Uint8Array);
    expect(challenge).toMatchObject({ transaction: 9, hash: 2, group: 1 });
    expect(challenge?.dhValue.length).toBe(256);
    const failures: [Uint8Array, number][] = [
      [offer([9], [0]), AuthFailure.hashUnusable],
      [offer([1], [9]), AuthFailure.dhGroupUnusable],
      [offer([], []), AuthFailure.hashUnusable],
      [offer([1], [0], 1), AuthFailure.concatenationMismatch],
      [
        encodeNegotiate({ transaction: 9, concatenation: 0, dhchap: null }),
        AuthFailure.protocolUnusable,
      ],
      [offer([1], [0]).slice(0, 70), AuthFailure.incorrectPayload],
      [new Uint8Array(3), AuthFailure.incorrectPayload],
    ];
    for (const [message, explanation] of failures) {
      const { made: other, told } = responder();
      other.receive(message);
      const failure = other.take(4096) as Uint8Array;
      expect(decodeAuthHeader(failure)).toMatchObject({ type: 0, id: AuthId.failure1 });
      expect(failure[7]).toBe(explanation);
      expect(told.length).toBe(1);
    }
  });

  it("takes a sequence number without a challenge, as Linux sends", () => {
    const { made, told } = responder();
    made.receive(offer([1], [0]));
    const challenge = decodeChallenge(made.take(4096) as Uint8Array);
    const response = dhchapResponse({
      ...names,
      secret: parseDhchapKey(KEY_1),
      hash: "sha256",
      role: "HostHost",
      challenge: challenge?.challenge as Uint8Array,
      sequence: challenge?.sequence as number,
      transaction: 9,
      dhSecret: null,
    });
    const dhValue = new Uint8Array(0);
    made.receive(encodeReply({ transaction: 9, response, challenge: null, sequence: 77, dhValue }));
    expect(decodeAuthHeader(made.take(4096) as Uint8Array)?.id).toBe(AuthId.success1);
    expect(told).toEqual(["authenticated"]);
  });

  it("gives a challenge once, and takes no response twice", () => {
    const { made, told } = responder();
    made.receive(offer([1], [0]));
    const challenge = decodeChallenge(made.take(4096) as Uint8Array);
    const bad = encodeReply({
      transaction: 9,
      response: new Uint8Array(32),
      challenge: null,
      sequence: 0,
      dhValue: new Uint8Array(0),
    });
    made.receive(bad);
    const good = dhchapResponse({
      ...names,
      secret: parseDhchapKey(KEY_1),
      hash: "sha256",
      role: "HostHost",
      challenge: challenge?.challenge as Uint8Array,
      sequence: challenge?.sequence as number,
      transaction: 9,
      dhSecret: null,
    });
    made.receive(
      encodeReply({
        transaction: 9,
        response: good,
        challenge: null,
        sequence: 0,
        dhValue: new Uint8Array(0),
      }),
    );
    expect((made.take(4096) as Uint8Array)[7]).toBe(AuthFailure.failed);
    expect(told).toEqual(["authentication failed"]);
    // It is over: nothing brings it back.
    made.receive(offer([1], [0]));
    expect((made.take(4096) as Uint8Array)[1]).toBe(AuthId.failure1);
  });

  it("holds against any messages in any order", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(offer([1, 2, 3], [0]), offer([3], [1]), offer([1], [0])),
      fc
        .tuple(
          fc.constantFrom(0, 1),
          fc.constantFrom(0, 2, 4, 0xf0),
          fc.uint8Array({ maxLength: 90 }),
        )
        .map(([type, id, rest]) => Uint8Array.from([type, id, 0, 0, 9, 0, ...rest])),
    );
    const step = fc.oneof(bytes, fc.integer({ min: 0, max: 4096 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const { made, told } = responder();
        for (const each of steps) {
          if (typeof each !== "number") made.receive(each);
          else {
            const message = made.take(each);
            expect(message === null ? 0 : message.length).toBeLessThanOrEqual(each);
          }
        }
        expect(told).not.toContain("authenticated");
      }),
      { seed: 6, numRuns: 400 },
    );
  });

  it("offers the null group last", () => {
    expect(DHCHAP_GROUPS.at(-1)).toBeNull();
  });
});

describe("TLS PSKs", () => {
  const interchange = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
  const secret = parseTlsKey(interchange);

  it("have the identity that libnvme computes", () => {
    const { identity } = deriveTlsPsk(secret, "nqn.psk-test-host", "nqn.psk-test-subsys");
    expect(identity).toBe(
      "NVMe1R01 nqn.psk-test-host nqn.psk-test-subsys " +
        "iSbjiStwJ/1TrTvDlt2fjFmzvsytOJelidNnA+X5lEU=",
    );
  });

  it("are those of the vectors in Linux' unit tests (nvme-auth, SHA-256)", () => {
    const psk = Buffer.from(
      "1733c59fa7f48fcf37f5f26fc4ff0268ad4f78e030f4f3b0bfd1d47e7bb1447a",
      "hex",
    );
    const digest = pskDigest(psk, "hostnqn", "subsysnqn");
    expect(digest).toBe("OldoKuTfKddMuyCznAZojkWD7P4D9/AtzDzLimtOxqI=");
    expect(hex(pskOfDigest(psk, digest))).toBe(
      "3c17da628474a04d2247c4cab47968c915388193f7c071bd9489cc3666cd7cc8",
    );
  });

  it("are found by their identity, and by no other", () => {
    for (const version of [0, 1] as const) {
      const psk = deriveTlsPsk(secret, HOST, SUB, version);
      const identity = parseTlsIdentity(psk.identity);
      expect(identity).toMatchObject({ version, hostNqn: HOST, subsystemNqn: SUB });
      if (identity === null) continue;
      expect(tlsKeyFor(identity, secret)).toEqual(psk.key);
      const wrong = parseTlsKey(generateTlsKey(random(8)));
      const found = tlsKeyFor(identity, wrong);
      // Version 0 names no key: the handshake itself finds out.
      if (version === 1) expect(found).toBeNull();
      else expect(found).not.toEqual(psk.key);
    }
    const text = deriveTlsPsk(secret, HOST, SUB).identity;
    const bad = [
      "",
      text.slice(0, -3),
      text.replace("R01", "R02"),
      text.replace("NVMe1", "NVMe0"),
      `${text} x`,
      "NVMe1R01 nqn.a nqn.b",
      "NVMe0R01 nqn.a",
      "x".repeat(10_000),
    ];
    for (const each of bad) {
      const identity = parseTlsIdentity(each);
      expect(identity === null ? null : tlsKeyFor(identity, secret)).toBeNull();
    }
  });

  it("of SHA-384 are refused, with the reason", () => {
    const long =
      "NVMeTLSkey-1:02:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwP/w0S89ELi3W2LxIcLXVsDn8kXZQ==:";
    expect(() => deriveTlsPsk(parseTlsKey(long), HOST, SUB)).toThrow(/AES_256/);
  });

  it("is known under the identity that nvme-cli 2.13 makes of it", () => {
    const secret = parseTlsKey("NVMeTLSkey-1:01:Y3kkCQqWhXwq+Z6USOg03B+oMbVhHI8qtoRHsR9lZIvXFftI:");
    const host = "nqn.2014-08.org.nvmexpress:uuid:5a5a5a5a-1111-4222-8333-444455556666";
    const digest = "rr0j/xsQBOYB1KFLx+S1/4ItaHFUUlXB45dRauBbUpk=";
    const identity = parseTlsIdentity(`NVMe1R01 ${host} ${SUB} ${digest}`);
    if (identity === null) return expect.fail("it is an identity");
    const key = tlsKeyFor(identity, secret);
    // A Linux with this one in its keyring got through the handshake.
    expect(hex(key)).toBe("ef51802b4510753dabb4671047e39fd94cede978f666728729aa0c90c072ecba");
    expect(hex(key)).not.toBe(hex(deriveTlsPsk(secret, host, SUB).key));
    expect(tlsKeyFor({ ...identity, hostNqn: HOST }, secret)).toBeNull();
  });
});
