/**
 * SHA-256 of payload, for the check that what the owner holds is what was sent. A library's job:
 * Node's own, behind this door because only the platform imports it.
 */
import { createHash } from "node:crypto";

/** Feeds bytes in any number of parts. */
export interface Digest {
  update(bytes: Uint8Array): void;
  /** Lower-case hex. The digest takes no more bytes afterwards. */
  hex(): string;
}

export function sha256(): Digest {
  const hash = createHash("sha256");
  return {
    update: (bytes) => {
      hash.update(bytes);
    },
    hex: () => hash.digest("hex"),
  };
}
