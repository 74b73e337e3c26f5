/**
 * The pre-shared keys of NVMe/TCP over TLS 1.3: from the configured PSK over the retained PSK to
 * what the handshake uses, and the identity that names it. NVM Express TCP Transport Specification
 * 1.0, section 3.6.1.3.
 *
 *     retained = HKDF-Expand-Label(HKDF-Extract(0, configured), "HostNQN", host NQN)
 *     identity = NVMe0R01 <host NQN> <subsystem NQN>                      version 0
 *                NVMe1R01 <host NQN> <subsystem NQN> <digest>             version 1
 *     TLS PSK  = HKDF-Expand-Label(HKDF-Extract(0, retained), "nvme-tls-psk", context)
 *
 * The context is the identity (version 0), or hash and digest (version 1).
 *
 * nvme-cli before 2.14 (libnvme before 1.14: Debian 13 has it) leaves the length bytes out of
 * HKDF-Expand-Label, and has the output's length the other way round. Its digest tells, so a target
 * knows its keys as well: {@link tlsKeyFor}.
 *
 * Leaves out: that form for version 0 identities, and for configured PSKs that are retained as they
 * are (hash `00`): nothing tells it there. SHA-384 (identities `R02`, PSKs of 48 bytes): Node's TLS
 * does external PSKs with the SHA-256 cipher suite alone. Generated PSKs (`G`): they need secure
 * channel concatenation.
 */

import { UsageError } from "../../core/index.ts";
import { HASH_BYTES, hkdf, hmac, sameSecret, toBase64 } from "../../platform/index.ts";
import type { Secret } from "./keys.ts";

/** What one TLS connection is opened with. */
export interface TlsPsk {
  readonly identity: string;
  readonly key: Uint8Array;
}

const HASH = "sha256";
const HASH_ID = "01";
const LABEL_PREFIX = "tls13 ";
/** Ends the text that the digest of a PSK is made of. */
const DIGEST_SUFFIX = "NVMe-over-Fabrics";
/** Context and label of HKDF-Expand-Label have a length of one byte. */
const CONTEXT_BYTES_MAX = 255;

const encoder = new TextEncoder();

type ExpandLabel = typeof expandLabel;

/** What old libnvme makes of HKDF-Expand-Label. */
const expandLabelOld: ExpandLabel = (key, label, context, length) => {
  const text = encoder.encode(LABEL_PREFIX + label + context);
  return hkdf(HASH, key, Uint8Array.of(length & 0xff, length >> 8, ...text), length);
};

/** HKDF-Expand-Label after HKDF-Extract without salt. RFC 8446, section 7.1. */
function expandLabel(key: Uint8Array, label: string, context: string, length: number): Uint8Array {
  const name = encoder.encode(LABEL_PREFIX + label);
  const about = encoder.encode(context);
  const info = new Uint8Array(4 + name.length + about.length);
  info[0] = length >> 8;
  info[1] = length & 0xff;
  info[2] = name.length;
  info.set(name, 3);
  info[3 + name.length] = about.length;
  info.set(about, 4 + name.length);
  return hkdf(HASH, key, info, length);
}

/** Throws `tls-key-unsupported` for a PSK that belongs to SHA-384. */
export function checkTlsSecret(secret: Secret, place?: string): void {
  const isFit = secret.bytes.length === HASH_BYTES[HASH] && secret.hash !== "sha384";
  if (isFit) return;
  throw new UsageError(
    "tls-key-unsupported",
    "this TLS PSK is one for TLS_AES_256_GCM_SHA384, which Node's TLS does not do with PSKs",
    { place, remedy: "make one of 32 bytes: nvme gen-tls-key --hmac=1" },
  );
}

function retainedPsk(secret: Secret, hostNqn: string, expand: ExpandLabel): Uint8Array {
  const { bytes, hash } = secret;
  if (hash === null) return bytes;
  return expand(bytes, "HostNQN", hostNqn, bytes.length);
}

/** Ties a retained PSK to the names it is for: the last part of a version 1 identity. */
export function pskDigest(retained: Uint8Array, hostNqn: string, subsystemNqn: string): string {
  const text = `${hostNqn} ${subsystemNqn} ${DIGEST_SUFFIX}`;
  return toBase64(hmac(HASH, retained, encoder.encode(text)));
}

/** The TLS PSK from a retained PSK and its digest. */
export function pskOfDigest(retained: Uint8Array, digest: string): Uint8Array {
  return pskOf(retained, digest, expandLabel);
}

function pskOf(retained: Uint8Array, digest: string, expand: ExpandLabel): Uint8Array {
  return expand(retained, "nvme-tls-psk", `${HASH_ID} ${digest}`, HASH_BYTES[HASH]);
}

/**
 * The PSK for a connection of this host to this subsystem. Version 1 unless told otherwise. Throws
 * `tls-key-unsupported`.
 */
export function deriveTlsPsk(
  secret: Secret,
  hostNqn: string,
  subsystemNqn: string,
  version: 0 | 1 = 1,
): TlsPsk {
  checkTlsSecret(secret);
  const retained = retainedPsk(secret, hostNqn, expandLabel);
  if (version === 1) {
    const digest = pskDigest(retained, hostNqn, subsystemNqn);
    const identity = `NVMe1R${HASH_ID} ${hostNqn} ${subsystemNqn} ${digest}`;
    return { identity, key: pskOfDigest(retained, digest) };
  }
  const identity = `NVMe0R${HASH_ID} ${hostNqn} ${subsystemNqn}`;
  if (encoder.encode(identity).length > CONTEXT_BYTES_MAX) {
    throw new UsageError("tls-names-too-long", "both names together are too long for version 0", {
      remedy: "use version 1 identities, or shorter names",
    });
  }
  const key = expandLabel(retained, "nvme-tls-psk", identity, HASH_BYTES[HASH]);
  return { identity, key };
}

/** The parts of an identity that a peer sent. */
export interface TlsIdentity {
  readonly version: 0 | 1;
  readonly hostNqn: string;
  readonly subsystemNqn: string;
  /** Version 1. */
  readonly digest: string | null;
}

/** Longest identity that is looked at: two names and a digest. */
const IDENTITY_CHARS_MAX = 600;

/** Null when it is none that this end can have a key for. */
export function parseTlsIdentity(text: string): TlsIdentity | null {
  if (text.length > IDENTITY_CHARS_MAX) return null;
  const match = /^NVMe([01])R01 (nqn\.[^ ]+) (nqn\.[^ ]+)(?: ([A-Za-z0-9+/=]+))?$/.exec(text);
  if (match === null) return null;
  const version = match[1] === "1" ? 1 : 0;
  const digest = match[4] ?? null;
  if ((digest !== null) !== (version === 1)) return null;
  return { version, hostNqn: match[2] as string, subsystemNqn: match[3] as string, digest };
}

/** The key for an identity that a host offers, out of its secret; null when it is another's. */
export function tlsKeyFor(identity: TlsIdentity, secret: Secret): Uint8Array | null {
  const { hostNqn, subsystemNqn, digest } = identity;
  checkTlsSecret(secret);
  if (digest === null) return keyOfNames(secret, hostNqn, subsystemNqn);
  for (const expand of [expandLabel, expandLabelOld]) {
    const retained = retainedPsk(secret, hostNqn, expand);
    const own = pskDigest(retained, hostNqn, subsystemNqn);
    if (sameSecret(encoder.encode(own), encoder.encode(digest)))
      return pskOf(retained, own, expand);
  }
  return null;
}

/** Version 0: null when the names are too long together. */
function keyOfNames(secret: Secret, hostNqn: string, subsystemNqn: string): Uint8Array | null {
  try {
    return deriveTlsPsk(secret, hostNqn, subsystemNqn, 0).key;
  } catch (error) {
    if (error instanceof UsageError) return null;
    throw error;
  }
}
