/** Keys and TLS of a target's configuration, as the target takes them. */

import {
  type DhGroup,
  type HostKeys,
  type PortTls,
  parseDhchapKey,
  parseTlsKey,
} from "../../nvmet/index.ts";
import type { HashName } from "../../platform/index.ts";
import type { HostConfig, PortConfig, TargetConfig } from "./schema.ts";

/** Some host has a key in it: a file with this configuration is a secret. */
export function hasSecrets({ hosts }: TargetConfig): boolean {
  return hosts.some((host) => host.dhchap_key !== undefined || host.tls_key !== undefined);
}

const listOf = (one: string | readonly string[] | undefined): readonly string[] =>
  typeof one === "string" ? [one] : (one ?? []);

/**
 * A host's keys. The configured hash and group alone are taken, as in Linux. Throws `bad-key`,
 * `tls-key-unsupported`; the key itself is in no message.
 */
export function hostKeysOf(host: HostConfig): HostKeys {
  const { dhchap_ctrl_key: ctrlKey, nqn } = host;
  const [key, ...others] = listOf(host.dhchap_key);
  const tlsKeys = listOf(host.tls_key);
  const hash = host.dhchap_hash.replace(/^hmac\((.*)\)$/, "$1") as HashName;
  const group = (host.dhchap_dhgroup === "null" ? null : host.dhchap_dhgroup) as DhGroup;
  return {
    ...(key === undefined ? {} : { dhchapKey: parseDhchapKey(key, `${nqn} dhchap_key`) }),
    dhchapOtherKeys: others.map((one) => parseDhchapKey(one, `${nqn} dhchap_key`)),
    ...(ctrlKey === undefined
      ? {}
      : { dhchapCtrlKey: parseDhchapKey(ctrlKey, `${nqn} dhchap_ctrl_key`) }),
    dhchapHashes: [hash],
    dhchapGroups: [group],
    tlsKeys: tlsKeys.map((one) => parseTlsKey(one, `${nqn} tls_key`)),
  };
}

/**
 * `addr_tsas: tls1.3` requires TLS unless `addr_treq` says `not required`, as in Linux. Null: TLS
 * is required and not offered.
 */
export function portTlsOf({ addr_tsas: security, addr_treq: need }: PortConfig): PortTls | null {
  if (security === "none") return need === "required" ? null : "none";
  return need === "not required" ? "allowed" : "required";
}
