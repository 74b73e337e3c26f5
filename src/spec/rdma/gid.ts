/**
 * Addresses of ports: GIDs of 16 bytes, written by people as IPv4 or IPv6 addresses. RoCEv2 makes a
 * GID of an IPv4 address by mapping it into ::ffff:0:0/96 (IBA Annex A17.4.5.2).
 */

import { UsageError } from "../../core/index.ts";

export const GID_BYTES = 16;

const IPV4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;
const IPV4_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

function parseIpv6(text: string): number[] | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const groups = halves.map((half) => (half === "" ? [] : half.split(":")));
  const [head = [], tail = []] = groups;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const all = [...head, ...new Array<string>(missing).fill("0"), ...tail];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  return all.flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/** Parses `10.0.0.1` or `fe80::1`. Throws {@link UsageError} `bad-address`. */
export function parseGid(text: string): Uint8Array {
  const ipv4 = IPV4.exec(text)?.slice(1).map(Number);
  if (ipv4?.every((part) => part < 256)) return Uint8Array.from([...IPV4_PREFIX, ...ipv4]);
  const ipv6 = parseIpv6(text);
  if (ipv6 !== null) return Uint8Array.from(ipv6);
  throw new UsageError("bad-address", `"${text}" is not the address of a port`, {
    remedy: "write an IPv4 address such as 10.0.0.1, or an IPv6 address or GID such as fe80::1",
  });
}

/**
 * The address as people write it; IPv4-mapped ones as IPv4. `offset`: where it begins in `bytes`.
 */
export function formatGid(bytes: Uint8Array, offset = 0): string {
  const gid = bytes.subarray(offset, offset + GID_BYTES);
  if (IPV4_PREFIX.every((value, i) => gid[i] === value)) return gid.subarray(12).join(".");
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((gid[2 * i] as number) << 8) | (gid[2 * i + 1] as number)).toString(16),
  );
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === "0") length++;
    if (length > best.length) best = { at, length };
  }
  if (best.at < 0) return groups.join(":");
  const head = groups.slice(0, best.at).join(":");
  return `${head}::${groups.slice(best.at + best.length).join(":")}`;
}
