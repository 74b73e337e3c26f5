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

/**
 * A host's keys. The configured hash and group alone are taken, as in Linux. Throws `bad-key`,
 * `tls-key-unsupported`; the key itself is in no message.
 */
export function hostKeysOf(host: HostConfig): HostKeys {
  const { dhchap_key: key, dhchap_ctrl_key: ctrlKey, tls_key: tlsKey, nqn } = host;
  const hash = host.dhchap_hash.replace(/^hmac\((.*)\)$/, "$1") as HashName;
  const group = (host.dhchap_dhgroup === "null" ? null : host.dhchap_dhgroup) as DhGroup;
  return {
    ...(key === undefined ? {} : { dhchapKey: parseDhchapKey(key, `${nqn} dhchap_key`) }),
    ...(ctrlKey === undefined
      ? {}
      : { dhchapCtrlKey: parseDhchapKey(ctrlKey, `${nqn} dhchap_ctrl_key`) }),
    dhchapHashes: [hash],
    dhchapGroups: [group],
    ...(tlsKey === undefined ? {} : { tlsKeys: [parseTlsKey(tlsKey, `${nqn} tls_key`)] }),
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
