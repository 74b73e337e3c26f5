/**
 * NVMe Qualified Names: who a host or a subsystem is. NVM Express Base Specification 2.0, section
 * 4.5 (NVMe Qualified Names).
 *
 * Leaves out: looking up domains or dates; a name is checked by its form alone.
 */

/** Longest name in bytes of UTF-8; the field that carries it has 256 bytes, NUL-terminated. */
export const NQN_BYTES_MAX = 223;
export const NQN_FIELD_BYTES = 256;

/** The well-known name of every discovery subsystem. */
export const DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery";
/** Prefix of names built from a UUID. */
export const NQN_UUID_PREFIX = "nqn.2014-08.org.nvmexpress:uuid:";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const DATED = /^nqn\.(\d{4})-(\d{2})\.([^:]+)(?::(.+))?$/s;
const DOMAIN_LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/** Bytes of `text` in UTF-8, without making them. */
function utf8Length(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) as number;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/**
 * What is wrong with a name, in words for the person who typed it; null when nothing is. The two
 * forms are `nqn.yyyy-mm.reversed.domain:anything` and the UUID form.
 */
export function nqnProblem(nqn: string): string | null {
  if (nqn.length === 0) return "it is empty";
  if (utf8Length(nqn) > NQN_BYTES_MAX) return `it is longer than ${NQN_BYTES_MAX} bytes`;
  if (nqn.includes("\0")) return "it contains a NUL";
  if (nqn.startsWith(NQN_UUID_PREFIX)) {
    const uuid = nqn.slice(NQN_UUID_PREFIX.length);
    return UUID.test(uuid) ? null : `"${uuid}" is not a UUID (8-4-4-4-12 hexadecimal digits)`;
  }
  const match = DATED.exec(nqn);
  if (match === null) return "it does not have the form nqn.yyyy-mm.reversed.domain:name";
  const month = Number(match[2]);
  if (month < 1 || month > 12) return `month ${match[2]} does not exist`;
  const labels = (match[3] as string).split(".");
  const bad = labels.find((label) => !DOMAIN_LABEL.test(label));
  if (bad !== undefined) return `"${bad}" is not a label of a domain name`;
  if (match[4] === undefined && nqn !== DISCOVERY_NQN) return "the colon and the name are missing";
  return null;
}

export function isNqn(nqn: string): boolean {
  return nqnProblem(nqn) === null;
}

/** True for the name under which discovery controllers are reached. */
export function isDiscoveryNqn(nqn: string): boolean {
  return nqn === DISCOVERY_NQN;
}
