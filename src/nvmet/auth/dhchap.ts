/**
 * What DH-HMAC-CHAP computes: the transformed key, the augmented challenge, the response. NVM
 * Express Base Specification 2.0, section 8.13.5. Both ends use it.
 *
 *     K'       = HMAC(K, NQN of who is authenticated || "NVMe-over-Fabrics")
 *     Ca       = C, or with a DH group HMAC(H(shared secret), C)
 *     response = HMAC(K', Ca || S || T_ID || SC_C || role || NQN1 || 0 || NQN2)
 */

import { viewOf } from "../../core/index.ts";
import { type DhGroupName, type HashName, hash, hmac } from "../../platform/index.ts";
import { AuthDhGroup, AuthHash } from "../../spec/nvmf/index.ts";
import type { Secret } from "./keys.ts";

/** A DH group of the negotiation; null: none, the challenge is used as it is. */
export type DhGroup = DhGroupName | null;

export const HASH_IDS: Readonly<Record<HashName, number>> = {
  sha256: AuthHash.sha256,
  sha384: AuthHash.sha384,
  sha512: AuthHash.sha512,
};

export function hashOfId(id: number): HashName | null {
  const found = Object.entries(HASH_IDS).find(([, each]) => each === id)?.[0];
  return (found as HashName | undefined) ?? null;
}

/** Identifier of a group, `null` being 0. */
export const groupId = (group: DhGroup): number => AuthDhGroup[group ?? "null"];

/** Undefined when there is no such group. */
export function groupOfId(id: number): DhGroup | undefined {
  const found = Object.entries(AuthDhGroup).find(([, each]) => each === id)?.[0];
  return found === "null" ? null : (found as DhGroupName | undefined);
}

/** Who proves that it has the key. */
export type DhchapRole = "HostHost" | "Controller";

export interface DhchapInput {
  readonly secret: Secret;
  readonly hash: HashName;
  readonly role: DhchapRole;
  readonly challenge: Uint8Array;
  readonly sequence: number;
  readonly transaction: number;
  /** The shared secret; null for the null group. */
  readonly dhSecret: Uint8Array | null;
  readonly hostNqn: string;
  readonly subsystemNqn: string;
}

const SEED = "NVMe-over-Fabrics";
const encoder = new TextEncoder();

/** The key as the party with this NQN uses it. */
export function transformKey(secret: Secret, nqn: string): Uint8Array {
  if (secret.hash === null) return secret.bytes;
  return hmac(secret.hash, secret.bytes, encoder.encode(nqn), encoder.encode(SEED));
}

/** The response to a challenge. */
export function dhchapResponse(input: DhchapInput): Uint8Array {
  const { hash: name, role, challenge, dhSecret, hostNqn, subsystemNqn } = input;
  const isHost = role === "HostHost";
  const first = isHost ? hostNqn : subsystemNqn;
  const second = isHost ? subsystemNqn : hostNqn;
  const augmented = dhSecret === null ? challenge : hmac(name, hash(name, dhSecret), challenge);
  // S, T_ID, and SC_C, which is 0: no secure channel is made of this.
  const numbers = new Uint8Array(7);
  viewOf(numbers).setUint32(0, input.sequence, true);
  viewOf(numbers).setUint16(4, input.transaction, true);
  return hmac(
    name,
    transformKey(input.secret, first),
    augmented,
    numbers,
    encoder.encode(`${role}${first}\0${second}`),
  );
}
