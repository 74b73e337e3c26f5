/**
 * What the target knows of each host for authenticating it: its DH-HMAC-CHAP keys, as in Linux'
 * nvmet configfs (`hosts/<nqn>/dhchap_key`, `dhchap_ctrl_key`, `dhchap_hash`, `dhchap_dhgroup`),
 * and its TLS PSKs.
 *
 * A host with a `dhchapKey` must authenticate on every queue of every subsystem but discovery; one
 * without is not asked. Which hosts may connect at all is the subsystem's list.
 */

import { type Inspectable, type Tree, UsageError } from "../../core/index.ts";
import type { HashName, Random } from "../../platform/index.ts";
import { nqnProblem } from "../../spec/nvmf/index.ts";
import type { DhGroup } from "./dhchap.ts";
import type { Secret } from "./keys.ts";
import { checkTlsSecret, parseTlsIdentity, type TlsIdentity, tlsKeyFor } from "./tls-psk.ts";

export interface HostKeys {
  /** The host proves that it has this one. */
  readonly dhchapKey?: Secret;
  /** Taken as well, while the key is replaced. */
  readonly dhchapOtherKeys?: readonly Secret[];
  /** The controller proves that it has this one, when the host asks. */
  readonly dhchapCtrlKey?: Secret;
  /** Hashes that are taken, the preferred one first. Default: all, the strongest first. */
  readonly dhchapHashes?: readonly HashName[];
  /** Groups that are taken, the preferred one first. Default: all, and the null group last. */
  readonly dhchapGroups?: readonly DhGroup[];
  /** Any of these opens TLS connections of this host; several while one is replaced. */
  readonly tlsKeys?: readonly Secret[];
}

export const DHCHAP_HASHES: readonly HashName[] = ["sha512", "sha384", "sha256"];

/** First the groups of 128 bits of strength and more, by cost. */
export const DHCHAP_GROUPS: readonly DhGroup[] = [
  "ffdhe3072",
  "ffdhe4096",
  "ffdhe6144",
  "ffdhe8192",
  "ffdhe2048",
  null,
];

export class HostSecurity implements Inspectable {
  readonly random: Random;
  /** Outcomes, over all queues. */
  readonly counters = { authenticated: 0, failed: 0, timedOut: 0, tlsUnknownIdentity: 0 };
  private readonly byNqn = new Map<string, HostKeys>();
  private sequence = 0;

  constructor(random: Random) {
    this.random = random;
  }

  /**
   * Sets a host's keys; connections that are up stay. Throws `bad-nqn`, `dhchap-key-missing`,
   * `tls-key-unsupported`.
   */
  set(hostNqn: string, keys: HostKeys): void {
    const problem = nqnProblem(hostNqn);
    if (problem !== null) {
      throw new UsageError("bad-nqn", `"${hostNqn}" is no NQN: ${problem}`, {
        remedy: "write it as nqn.2014-08.org.nvmexpress:uuid:...",
      });
    }
    if (keys.dhchapCtrlKey !== undefined && keys.dhchapKey === undefined) {
      throw new UsageError(
        "dhchap-key-missing",
        "a controller key needs a key of the host beside it: a host proves itself first",
        { place: hostNqn, remedy: "set dhchap_key as well" },
      );
    }
    for (const key of keys.tlsKeys ?? []) checkTlsSecret(key, hostNqn);
    this.byNqn.set(hostNqn, keys);
  }

  delete(hostNqn: string): void {
    this.byNqn.delete(hostNqn);
  }

  get(hostNqn: string): HostKeys | null {
    return this.byNqn.get(hostNqn) ?? null;
  }

  mustAuthenticate(hostNqn: string): boolean {
    return this.get(hostNqn)?.dhchapKey !== undefined;
  }

  /** The key for a TLS PSK identity; null: there is none, and the handshake fails. */
  tlsKey(text: string): { readonly identity: TlsIdentity; readonly key: Uint8Array } | null {
    const identity = parseTlsIdentity(text);
    const secrets = identity === null ? [] : (this.get(identity.hostNqn)?.tlsKeys ?? []);
    for (const secret of secrets) {
      const key = identity === null ? null : tlsKeyFor(identity, secret);
      if (identity !== null && key !== null) return { identity, key };
    }
    this.counters.tlsUnknownIdentity++;
    return null;
  }

  /** A sequence number for a challenge: starts anywhere, is never 0. */
  nextSequence(): number {
    if (this.sequence === 0) {
      const bytes = new Uint8Array(4);
      this.random(bytes);
      this.sequence = new DataView(bytes.buffer).getUint32(0, true);
    }
    this.sequence = this.sequence === 0xffff_ffff ? 1 : this.sequence + 1;
    return this.sequence;
  }

  inspect(): Tree {
    const hosts = [...this.byNqn].map(([nqn, keys]) => ({
      nqn,
      dhchapKey: keys.dhchapKey !== undefined,
      dhchapOtherKeys: keys.dhchapOtherKeys?.length ?? 0,
      dhchapCtrlKey: keys.dhchapCtrlKey !== undefined,
      dhchapHashes: [...(keys.dhchapHashes ?? DHCHAP_HASHES)],
      dhchapGroups: (keys.dhchapGroups ?? DHCHAP_GROUPS).map((group) => group ?? "null"),
      tlsKeys: keys.tlsKeys?.length ?? 0,
    }));
    return { hosts, ...this.counters };
  }
}
