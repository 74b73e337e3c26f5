/**
 * In-band authentication messages: AUTH_Negotiate, DH-HMAC-CHAP_Challenge, _Reply, _Success1,
 * _Success2, AUTH_Failure1 and 2, as Authentication Send and Receive carry them. Little-endian.
 * NVM Express Base Specification 2.0, section 8.13.
 *
 * Invariant: `decode*` never reads beyond the bytes it is given; null means that the lengths inside
 * a message do not fit it. What the values mean is checked by who takes part (nvmet/auth).
 */

import { viewOf } from "../../core/index.ts";

/** Security Protocol of Authentication Send and Receive, with SPSP0 and SPSP1 both 1. */
export const AUTH_SECP = 0xe9;
export const AUTH_SPSP = 0x01;

/** AUTH_TYPE. */
export const AuthType = { common: 0x00, dhchap: 0x01 } as const;

/** AUTH_ID. */
export const AuthId = {
  negotiate: 0x00,
  challenge: 0x01,
  reply: 0x02,
  success1: 0x03,
  success2: 0x04,
  failure2: 0xf0,
  failure1: 0xf1,
} as const;

/** Hash identifiers, of messages and of keys (where 0 says: not transformed). */
export const AuthHash = { none: 0, sha256: 1, sha384: 2, sha512: 3 } as const;

/** DH group identifiers. */
export const AuthDhGroup = {
  null: 0,
  ffdhe2048: 1,
  ffdhe3072: 2,
  ffdhe4096: 3,
  ffdhe6144: 4,
  ffdhe8192: 5,
} as const;

/** Reason code explanations of AUTH_Failure; the reason code is 1, authentication failure. */
export const AuthFailure = {
  failed: 1,
  protocolUnusable: 2,
  concatenationMismatch: 3,
  hashUnusable: 4,
  dhGroupUnusable: 5,
  incorrectPayload: 6,
  incorrectMessage: 7,
} as const;
export type AuthFailure = (typeof AuthFailure)[keyof typeof AuthFailure];

export const AUTH_FAILURE_NAMES: Readonly<Record<number, string>> = {
  1: "authentication failed",
  2: "no usable authentication protocol",
  3: "secure channel concatenation mismatch",
  4: "no usable hash function",
  5: "no usable DH group",
  6: "incorrect payload",
  7: "incorrect protocol message",
};

const AUTH_REASON_FAILURE = 1;

/** AUTHREQ of the Connect response, as bits of its first dword. */
export const AUTHREQ_ATR = 1 << 17;
export const AUTHREQ_ASCR = 1 << 18;

/** Type and identifier of any message, and its transaction identifier. */
export interface AuthHeader {
  readonly type: number;
  readonly id: number;
  readonly transaction: number;
}

export interface AuthNegotiate {
  readonly transaction: number;
  /** SC_C: what secure channel to make of it; 0 none. */
  readonly concatenation: number;
  /** Of the DH-HMAC-CHAP descriptor; null when there is none. */
  readonly dhchap: {
    readonly hashes: readonly number[];
    readonly groups: readonly number[];
  } | null;
}

export interface DhchapChallenge {
  readonly transaction: number;
  readonly hash: number;
  readonly group: number;
  /** S1; never 0. */
  readonly sequence: number;
  readonly challenge: Uint8Array;
  /** Empty for the null group. */
  readonly dhValue: Uint8Array;
}

export interface DhchapReply {
  readonly transaction: number;
  readonly response: Uint8Array;
  /** The host's challenge of the controller; null: it asks for none. */
  readonly challenge: Uint8Array | null;
  /** S2; 0 without a challenge. */
  readonly sequence: number;
  readonly dhValue: Uint8Array;
}

export interface DhchapSuccess1 {
  readonly transaction: number;
  /** HL is there also without a response. */
  readonly hashBytes: number;
  readonly response: Uint8Array | null;
}

const HEADER_BYTES = 8;
const FIXED_BYTES = 16;
const DESCRIPTOR_BYTES = 64;
/** Identifiers that a descriptor has room for, of each kind. */
const LIST_MAX = 30;

const Off = {
  type: 0,
  id: 1,
  transaction: 4,
  concatenation: 6,
  descriptorCount: 7,
  hashBytes: 6,
  hash: 8,
  group: 9,
  dhBytes: 10,
  sequence: 12,
  valid: 8,
  reason: 6,
  explanation: 7,
} as const;
/** Inside a descriptor. */
const DescriptorOff = { protocol: 0, hashCount: 2, groupCount: 3, hashes: 4, groups: 34 } as const;

/** A message of `bytes` bytes with its header. */
function make(type: number, id: number, transaction: number, bytes: number): Uint8Array {
  const message = new Uint8Array(bytes);
  message[Off.type] = type;
  message[Off.id] = id;
  viewOf(message).setUint16(Off.transaction, transaction, true);
  return message;
}

export function decodeAuthHeader(bytes: Uint8Array): AuthHeader | null {
  if (bytes.length < HEADER_BYTES) return null;
  const view = viewOf(bytes);
  return {
    type: view.getUint8(Off.type),
    id: view.getUint8(Off.id),
    transaction: view.getUint16(Off.transaction, true),
  };
}

export function encodeNegotiate(message: AuthNegotiate): Uint8Array {
  const { dhchap } = message;
  const size = HEADER_BYTES + (dhchap === null ? 0 : DESCRIPTOR_BYTES);
  const bytes = make(AuthType.common, AuthId.negotiate, message.transaction, size);
  bytes[Off.concatenation] = message.concatenation;
  if (dhchap === null) return bytes;
  bytes[Off.descriptorCount] = 1;
  const descriptor = bytes.subarray(HEADER_BYTES);
  descriptor[DescriptorOff.protocol] = AuthType.dhchap;
  descriptor[DescriptorOff.hashCount] = dhchap.hashes.length;
  descriptor[DescriptorOff.groupCount] = dhchap.groups.length;
  descriptor.set(dhchap.hashes, DescriptorOff.hashes);
  descriptor.set(dhchap.groups, DescriptorOff.groups);
  return bytes;
}

export function decodeNegotiate(bytes: Uint8Array): AuthNegotiate | null {
  const header = decodeAuthHeader(bytes);
  if (header === null) return null;
  const count = bytes[Off.descriptorCount] as number;
  if (bytes.length !== HEADER_BYTES + count * DESCRIPTOR_BYTES) return null;
  let dhchap: AuthNegotiate["dhchap"] = null;
  for (let i = 0; i < count && dhchap === null; i++) {
    const at = HEADER_BYTES + i * DESCRIPTOR_BYTES;
    if (bytes[at + DescriptorOff.protocol] !== AuthType.dhchap) continue;
    const hashes = bytes[at + DescriptorOff.hashCount] as number;
    const groups = bytes[at + DescriptorOff.groupCount] as number;
    if (hashes > LIST_MAX || groups > LIST_MAX) return null;
    const list = (from: number, length: number): number[] => [
      ...bytes.subarray(at + from, at + from + length),
    ];
    dhchap = {
      hashes: list(DescriptorOff.hashes, hashes),
      groups: list(DescriptorOff.groups, groups),
    };
  }
  const concatenation = bytes[Off.concatenation] as number;
  return { transaction: header.transaction, concatenation, dhchap };
}

export function encodeChallenge(message: DhchapChallenge): Uint8Array {
  const { challenge, dhValue } = message;
  const size = FIXED_BYTES + challenge.length + dhValue.length;
  const bytes = make(AuthType.dhchap, AuthId.challenge, message.transaction, size);
  const view = viewOf(bytes);
  view.setUint8(Off.hashBytes, challenge.length);
  view.setUint8(Off.hash, message.hash);
  view.setUint8(Off.group, message.group);
  view.setUint16(Off.dhBytes, dhValue.length, true);
  view.setUint32(Off.sequence, message.sequence, true);
  bytes.set(challenge, FIXED_BYTES);
  bytes.set(dhValue, FIXED_BYTES + challenge.length);
  return bytes;
}

/** `bytes` may be longer: Authentication Receive fills its buffer with zeros. */
export function decodeChallenge(bytes: Uint8Array): DhchapChallenge | null {
  if (bytes.length < FIXED_BYTES) return null;
  const view = viewOf(bytes);
  const dhAt = FIXED_BYTES + view.getUint8(Off.hashBytes);
  const end = dhAt + view.getUint16(Off.dhBytes, true);
  if (end > bytes.length) return null;
  return {
    transaction: view.getUint16(Off.transaction, true),
    hash: view.getUint8(Off.hash),
    group: view.getUint8(Off.group),
    sequence: view.getUint32(Off.sequence, true),
    challenge: bytes.slice(FIXED_BYTES, dhAt),
    dhValue: bytes.slice(dhAt, end),
  };
}

export function encodeReply(message: DhchapReply): Uint8Array {
  const { response, challenge, dhValue } = message;
  const length = response.length;
  // The challenge has its place also when it is not valid.
  const size = FIXED_BYTES + 2 * length + dhValue.length;
  const bytes = make(AuthType.dhchap, AuthId.reply, message.transaction, size);
  const view = viewOf(bytes);
  view.setUint8(Off.hashBytes, length);
  view.setUint8(Off.valid, challenge === null ? 0 : 1);
  view.setUint16(Off.dhBytes, dhValue.length, true);
  view.setUint32(Off.sequence, message.sequence, true);
  bytes.set(response, FIXED_BYTES);
  if (challenge !== null) bytes.set(challenge, FIXED_BYTES + length);
  bytes.set(dhValue, FIXED_BYTES + 2 * length);
  return bytes;
}

export function decodeReply(bytes: Uint8Array): DhchapReply | null {
  if (bytes.length < FIXED_BYTES) return null;
  const view = viewOf(bytes);
  const length = view.getUint8(Off.hashBytes);
  const valid = view.getUint8(Off.valid);
  const challengeAt = FIXED_BYTES + length;
  const dhAt = challengeAt + length;
  if (bytes.length !== dhAt + view.getUint16(Off.dhBytes, true) || valid > 1) return null;
  return {
    transaction: view.getUint16(Off.transaction, true),
    response: bytes.slice(FIXED_BYTES, challengeAt),
    challenge: valid === 1 ? bytes.slice(challengeAt, dhAt) : null,
    sequence: view.getUint32(Off.sequence, true),
    dhValue: bytes.slice(dhAt),
  };
}

export function encodeSuccess1(message: DhchapSuccess1): Uint8Array {
  const { response, hashBytes } = message;
  const size = FIXED_BYTES + (response === null ? 0 : response.length);
  const bytes = make(AuthType.dhchap, AuthId.success1, message.transaction, size);
  bytes[Off.hashBytes] = hashBytes;
  bytes[Off.valid] = response === null ? 0 : 1;
  if (response !== null) bytes.set(response, FIXED_BYTES);
  return bytes;
}

/** `bytes` may be longer, as for a challenge. */
export function decodeSuccess1(bytes: Uint8Array): DhchapSuccess1 | null {
  if (bytes.length < FIXED_BYTES) return null;
  const view = viewOf(bytes);
  const hashBytes = view.getUint8(Off.hashBytes);
  const isValid = (view.getUint8(Off.valid) & 1) !== 0;
  if (isValid && FIXED_BYTES + hashBytes > bytes.length) return null;
  return {
    transaction: view.getUint16(Off.transaction, true),
    hashBytes,
    response: isValid ? bytes.slice(FIXED_BYTES, FIXED_BYTES + hashBytes) : null,
  };
}

export const SUCCESS2_BYTES = FIXED_BYTES;

export const encodeSuccess2 = (transaction: number): Uint8Array =>
  make(AuthType.dhchap, AuthId.success2, transaction, FIXED_BYTES);

export const AUTH_FAILURE_BYTES = HEADER_BYTES;

/** `id` is `AuthId.failure1`, from the controller, or `failure2`, from the host. */
export function encodeAuthFailure(
  id: number,
  transaction: number,
  explanation: AuthFailure,
): Uint8Array {
  const bytes = make(AuthType.common, id, transaction, AUTH_FAILURE_BYTES);
  bytes[Off.reason] = AUTH_REASON_FAILURE;
  bytes[Off.explanation] = explanation;
  return bytes;
}

/** The explanation of a failure message, in words. */
export function describeAuthFailure(bytes: Uint8Array): string {
  const code = bytes[Off.explanation] ?? 0;
  return AUTH_FAILURE_NAMES[code] ?? `explanation ${code}`;
}
