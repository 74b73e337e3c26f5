/**
 * Cryptography: keyed hashes, HKDF, Diffie-Hellman over the groups of RFC 7919, randomness. A
 * library's job: Node's own (OpenSSL), behind this door because only the platform imports it.
 *
 * Randomness is a parameter ({@link Random}) as time is, so a test replays a handshake; only
 * `realRandom` may make keys that anybody relies on.
 *
 * Leaves out: ciphers (TLS has its own, sockets.ts), elliptic curves.
 */
import {
  createDiffieHellman,
  createHash,
  createHmac,
  type DiffieHellman,
  hkdfSync,
  randomFillSync,
  timingSafeEqual,
} from "node:crypto";
import { crc32 as zlibCrc32 } from "node:zlib";

export type HashName = "sha256" | "sha384" | "sha512";

/** Bytes of a digest. */
export const HASH_BYTES: Readonly<Record<HashName, number>> = {
  sha256: 32,
  sha384: 48,
  sha512: 64,
};

/** Fills bytes with randomness. */
export type Random = (bytes: Uint8Array) => void;

/** The host's generator, fit for keys. */
export const realRandom: Random = (bytes) => {
  randomFillSync(bytes);
};

export function hash(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  const made = createHash(name);
  for (const part of parts) made.update(part);
  return Uint8Array.from(made.digest());
}

export function hmac(name: HashName, key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const made = createHmac(name, key);
  for (const part of parts) made.update(part);
  return Uint8Array.from(made.digest());
}

/** HKDF, extract (no salt) and expand. RFC 5869. */
export function hkdf(
  name: HashName,
  key: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array {
  return new Uint8Array(hkdfSync(name, key, new Uint8Array(0), info, length));
}

/** Compares without telling by its time where they differ. Lengths are no secret. */
export function sameSecret(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** CRC-32 (IEEE 802.3), as the key formats of NVMe carry it. */
export const crc32 = (bytes: Uint8Array): number => zlibCrc32(bytes);

export const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

/** Null when the text is not base64 with its padding: nothing is skipped or guessed. */
export function fromBase64(text: string): Uint8Array | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? Uint8Array.from(bytes) : null;
}

export type DhGroupName = "ffdhe2048" | "ffdhe3072" | "ffdhe4096" | "ffdhe6144" | "ffdhe8192";

interface DhGroupShape {
  readonly bits: number;
  /** X of RFC 7919, appendix A: what makes the number a safe prime. */
  readonly x: number;
  /** Bits of the private exponent: twice the group's strength, rounded up (appendix A). */
  readonly exponentBits: number;
}

const DH_GROUPS: Readonly<Record<DhGroupName, DhGroupShape>> = {
  ffdhe2048: { bits: 2048, x: 560_316, exponentBits: 256 },
  ffdhe3072: { bits: 3072, x: 2_625_351, exponentBits: 288 },
  ffdhe4096: { bits: 4096, x: 5_736_041, exponentBits: 352 },
  ffdhe6144: { bits: 6144, x: 15_705_020, exponentBits: 384 },
  ffdhe8192: { bits: 8192, x: 10_965_728, exponentBits: 416 },
};

const GENERATOR = 2;
/** Extra bits that the series of e is computed with. */
const GUARD_BITS = 64;
const primes = new Map<DhGroupName, Uint8Array>();

/** p = 2^b - 2^(b-64) + (floor(2^(b-130) * e) + X) * 2^64 - 1: RFC 7919, appendix A. */
function primeOf(name: DhGroupName): Uint8Array {
  const known = primes.get(name);
  if (known !== undefined) return known;
  const { bits, x } = DH_GROUPS[name];
  let term = 1n << BigInt(bits - 130 + GUARD_BITS);
  let e = 0n;
  for (let k = 1n; term > 0n; k++) {
    e += term;
    term /= k;
  }
  const b = BigInt(bits);
  const middle = ((e >> BigInt(GUARD_BITS)) + BigInt(x)) << 64n;
  const prime = (1n << b) - (1n << (b - 64n)) + middle - 1n;
  const bytes = Uint8Array.from(Buffer.from(prime.toString(16), "hex"));
  primes.set(name, bytes);
  return bytes;
}

/** Bytes of a public value, and of the secret. */
export const dhBytes = (name: DhGroupName): number => DH_GROUPS[name].bits / 8;

/** One side of one exchange: made for it, and dropped after it. */
export class DhExchange {
  readonly #group: DhGroupName;
  readonly #own: DiffieHellman;
  /** As long as the group's prime. */
  readonly publicValue: Uint8Array;

  constructor(group: DhGroupName, random: Random) {
    this.#group = group;
    this.#own = createDiffieHellman(primeOf(group), GENERATOR);
    const exponent = new Uint8Array(DH_GROUPS[group].exponentBits / 8);
    random(exponent);
    // Never 0 and never short: the top bit is set.
    exponent[0] = (exponent[0] ?? 0) | 0x80;
    this.#own.setPrivateKey(exponent);
    this.#own.generateKeys();
    this.publicValue = padded(this.#own.getPublicKey(), dhBytes(group));
  }

  /**
   * The shared secret, as long as the prime. Null when the peer's value is none that an honest peer
   * sends: too long, or one of 0, 1, p - 1 and above, which would make the secret a constant.
   */
  secret(peer: Uint8Array): Uint8Array | null {
    const length = dhBytes(this.#group);
    if (peer.length === 0 || peer.length > length) return null;
    if (!isInside(padded(peer, length), primeOf(this.#group))) return null;
    return padded(this.#own.computeSecret(peer), length);
  }
}

/** 1 < value < prime - 1. */
function isInside(value: Uint8Array, prime: Uint8Array): boolean {
  const last = value.length - 1;
  const isSmall = value.subarray(0, last).every((byte) => byte === 0);
  if (isSmall && (value[last] as number) <= 1) return false;
  // The prime is odd, so p - 1 differs from it in the last bit alone.
  const limit = Uint8Array.from(prime);
  limit[last] = (limit[last] as number) - 1;
  return Buffer.compare(value, limit) < 0;
}

function padded(bytes: Uint8Array, length: number): Uint8Array {
  const whole = new Uint8Array(length);
  whole.set(bytes, length - bytes.length);
  return whole;
}
