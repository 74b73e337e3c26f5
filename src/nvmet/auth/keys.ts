/**
 * Secrets in their interchange formats: `DHHC-1:hh:base64(key, CRC-32):` of DH-HMAC-CHAP (NVM
 * Express Base Specification 2.0, section 8.13.5.8) and `NVMeTLSkey-1:hh:base64(PSK, CRC-32):` of
 * TLS (NVM Express TCP Transport Specification 1.0, section 3.6.1.5).
 *
 * Invariant: the bytes of a secret are in no message, no `inspect()` and no JSON: {@link Secret}
 * has them in a private field, and errors about a text that does not parse never quote it.
 */

import { UsageError } from "../../core/index.ts";
import { crc32, fromBase64, type HashName, type Random, toBase64 } from "../../platform/index.ts";
import { AuthHash } from "../../spec/nvmf/index.ts";

/** A key as it was configured, and the hash that its format names. */
export class Secret {
  readonly #bytes: Uint8Array;
  /** What to transform (DH-HMAC-CHAP) or retain (TLS) it with; null: it is used as it is. */
  readonly hash: HashName | null;

  constructor(bytes: Uint8Array, hash: HashName | null) {
    this.#bytes = bytes;
    this.hash = hash;
  }

  /** The key itself. For computing with, never for showing. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return this.toString();
  }
}

const HASH_OF_ID: Readonly<Record<number, HashName | null>> = {
  [AuthHash.none]: null,
  [AuthHash.sha256]: "sha256",
  [AuthHash.sha384]: "sha384",
  [AuthHash.sha512]: "sha512",
};

const CRC_BYTES = 4;

interface KeyFormat {
  readonly prefix: string;
  /** For people. */
  readonly name: string;
  readonly lengths: readonly number[];
  readonly hashes: readonly number[];
  /** The command of nvme-cli that makes one. */
  readonly command: string;
}

const DHCHAP: KeyFormat = {
  prefix: "DHHC-1",
  name: "DH-HMAC-CHAP key",
  lengths: [32, 48, 64],
  hashes: [AuthHash.none, AuthHash.sha256, AuthHash.sha384, AuthHash.sha512],
  command: "nvme gen-dhchap-key",
};

const TLS: KeyFormat = {
  prefix: "NVMeTLSkey-1",
  name: "TLS PSK",
  lengths: [32, 48],
  hashes: [AuthHash.none, AuthHash.sha256, AuthHash.sha384],
  command: "nvme gen-tls-key",
};

function bad(format: KeyFormat, why: string, place: string | undefined): UsageError {
  return new UsageError("bad-key", `this is no ${format.name}: ${why}`, {
    place,
    remedy: `make one with: ${format.command}, or peerlane keygen`,
  });
}

function parse(text: string, format: KeyFormat, place?: string): Secret {
  const match = /^([^:]+):([0-9a-fA-F]{2}):([^:]*):$/.exec(text.trim());
  if (match === null || match[1] !== format.prefix) {
    throw bad(format, `it does not read ${format.prefix}:hh:base64:`, place);
  }
  const id = Number.parseInt(match[2] as string, 16);
  const hash = format.hashes.includes(id) ? HASH_OF_ID[id] : undefined;
  if (hash === undefined) throw bad(format, `hash ${match[2]} is not defined for it`, place);
  const bytes = fromBase64(match[3] as string);
  if (bytes === null) throw bad(format, "its third part is not base64", place);
  const length = bytes.length - CRC_BYTES;
  if (!format.lengths.includes(length)) {
    throw bad(
      format,
      `it has ${Math.max(0, length)} bytes, not ${format.lengths.join(", ")}`,
      place,
    );
  }
  const wanted = new DataView(bytes.buffer).getUint32(length, true);
  const key = bytes.slice(0, length);
  if (crc32(key) !== wanted) throw bad(format, "its checksum is wrong: was it cut?", place);
  return new Secret(key, hash);
}

/** Throws {@link UsageError} `bad-key`; `place` is the file or option it came from. */
export const parseDhchapKey = (text: string, place?: string): Secret => parse(text, DHCHAP, place);

/** Throws {@link UsageError} `bad-key`. */
export const parseTlsKey = (text: string, place?: string): Secret => parse(text, TLS, place);

function format(key: Uint8Array, hash: HashName | null, { prefix }: KeyFormat): string {
  const id = Object.keys(HASH_OF_ID).find((each) => HASH_OF_ID[Number(each)] === hash) as string;
  const bytes = new Uint8Array(key.length + CRC_BYTES);
  bytes.set(key);
  new DataView(bytes.buffer).setUint32(key.length, crc32(key), true);
  return `${prefix}:${id.padStart(2, "0")}:${toBase64(bytes)}:`;
}

const LENGTH_OF: Readonly<Record<HashName, number>> = { sha256: 32, sha384: 48, sha512: 64 };

/** A new key in its format. Null: 32 bytes that are used as they are. */
export function generateDhchapKey(hash: HashName | null, random: Random): string {
  const key = new Uint8Array(LENGTH_OF[hash ?? "sha256"]);
  random(key);
  return format(key, hash, DHCHAP);
}

/** A new 32-byte PSK in its format, for the cipher suite that this end has. */
export function generateTlsKey(random: Random): string {
  const key = new Uint8Array(LENGTH_OF.sha256);
  random(key);
  return format(key, "sha256", TLS);
}
