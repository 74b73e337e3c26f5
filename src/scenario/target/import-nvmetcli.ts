/**
 * The JSON that `nvmetcli save` writes (/etc/nvmet/config.json) as a target configuration. There,
 * configfs' attribute groups are objects (`addr`, `attr`, `device`, `param`, `ana`) with text
 * values; here they are prefixes.
 *
 * What cannot be honoured is dropped with a note that names it; a value that is wrong is an error
 * like any other, at its line. Leaves out: writing this format.
 */

type Json = Readonly<Record<string, unknown>>;

export interface Imported {
  /** For the schema. */
  readonly value: unknown;
  /** One sentence for each thing that was left out or changed. */
  readonly notes: readonly string[];
}

/** Groups of attributes that become prefixes. */
const GROUPS = ["addr", "attr", "device", "param"] as const;

const SUBSYSTEM_KEYS = ["nqn", "allowed_hosts", "namespaces", "attr_allow_any_host"];
const SUBSYSTEM_ATTRS = ["attr_serial", "attr_model", "attr_firmware", "attr_qid_max"];
const NAMESPACE_KEYS = [
  "nsid",
  "enable",
  "ana_grpid",
  "device_path",
  "device_uuid",
  "device_nguid",
  "p2pmem",
];
const PORT_KEYS = ["portid", "subsystems", "referrals", "ana_groups"];
const PORT_ATTRS = [
  "addr_trtype",
  "addr_adrfam",
  "addr_traddr",
  "addr_trsvcid",
  "addr_treq",
  "addr_tsas",
  "param_inline_data_size",
  "param_max_queue_size",
];
const REFERRAL_KEYS = ["name", "enable", "addr_trtype", "addr_traddr", "addr_trsvcid"];
const HOST_KEYS = ["nqn", "dhchap_key", "dhchap_ctrl_key", "dhchap_hash", "dhchap_dhgroup"];

/** Values that say nothing: leaving them out changes nothing. */
const EMPTY = new Set(["", "(null)", "0", "none", "not specified", "-1", "4294967295"]);
/** Attributes that mean nothing here whatever they are, and are always written. */
const SILENT = new Set(["attr_cntlid_min", "attr_cntlid_max", "attr_version", "param_pi_enable"]);
const NIL_UUID = /^[0-]+$/;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** True for the format of nvmetcli: some entry has a group of attributes. */
export function isNvmetcli(value: unknown): boolean {
  if (!isObject(value)) return false;
  const entries = [...list(value["ports"]), ...list(value["subsystems"])];
  const hasGroup = (entry: unknown): boolean =>
    isObject(entry) && GROUPS.some((group) => isObject(entry[group]));
  const inner = entries.flatMap((entry) => (isObject(entry) ? list(entry["namespaces"]) : []));
  return [...entries, ...inner].some(hasGroup);
}

/** A path of the converted value as a path of the text. */
export function nvmetcliPath(path: readonly PropertyKey[]): PropertyKey[] {
  return path.flatMap((part): PropertyKey[] => {
    const text = String(part);
    const group = GROUPS.find((name) => text.startsWith(`${name}_`));
    if (group !== undefined) return [group, text.slice(group.length + 1)];
    if (text === "ana_state") return ["ana", "state"];
    if (text.startsWith("dhchap_")) return ["dhchap", text.slice("dhchap_".length)];
    return [part];
  });
}

/** Converts; what it does not understand goes through unchanged, for the schema to refuse. */
export function importNvmetcli(value: unknown): Imported {
  const notes: string[] = [];
  const top = isObject(value) ? value : {};
  for (const key of Object.keys(top)) {
    if (!["hosts", "ports", "subsystems"].includes(key)) notes.push(`${key}: left out`);
  }
  const subsystems = list(top["subsystems"]).map((entry) => subsystem(entry, notes));
  const ports = list(top["ports"]).flatMap((entry) => port(entry, notes));
  const hosts = list(top["hosts"]).map((entry) => {
    if (!isObject(entry)) return entry;
    const flat = flatten(entry, ["dhchap"]);
    return pick(flat, HOST_KEYS, `host ${String(entry["nqn"])}`, notes);
  });
  return { value: { hosts, subsystems, ports }, notes };
}

/** `{ addr: { traddr: x } }` becomes `{ addr_traddr: x }`. */
function flatten(entry: Json, groups: readonly string[] = GROUPS): Record<string, unknown> {
  const flat: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entry)) {
    if (!groups.includes(key) || !isObject(value)) flat[key] = value;
    else for (const [name, one] of Object.entries(value)) flat[`${key}_${name}`] = one;
  }
  return flat;
}

/** The keys that are known and say something; a note for each of the others that does. */
function pick(
  flat: Json,
  keys: readonly string[],
  who: string,
  notes: string[],
): Record<string, unknown> {
  const picked: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(flat)) {
    const text = typeof value === "string" ? value.trim() : value;
    const isEmpty = typeof text === "string" && EMPTY.has(text) && text !== "0";
    if (keys.includes(key)) {
      if (!isEmpty) picked[key] = number(text);
    } else if (!SILENT.has(key) && !EMPTY.has(String(text))) {
      notes.push(`${who}: ${key} ${JSON.stringify(value)} is not offered here: left out`);
    }
  }
  return picked;
}

/** Numbers are text in configfs. */
function number(value: unknown): unknown {
  return typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
}

function subsystem(entry: unknown, notes: string[]): unknown {
  if (!isObject(entry)) return entry;
  const who = `subsystem ${String(entry["nqn"])}`;
  const picked = pick(flatten(entry), [...SUBSYSTEM_KEYS, ...SUBSYSTEM_ATTRS], who, notes);
  for (const key of ["attr_serial", "attr_model", "attr_firmware"]) {
    if (picked[key] !== undefined) picked[key] = String(picked[key]);
  }
  if (picked["attr_serial"] === "0") delete picked["attr_serial"];
  if (picked["attr_qid_max"] === 0) delete picked["attr_qid_max"];
  picked["namespaces"] = list(entry["namespaces"]).map((one) => namespace(one, who, notes));
  return picked;
}

function namespace(entry: unknown, owner: string, notes: string[]): unknown {
  if (!isObject(entry)) return entry;
  const who = `${owner}, namespace ${String(entry["nsid"])}`;
  const flat = flatten(entry);
  // Newer versions have the group as an object, older ones as a number.
  const { ana, buffered_io: buffered, ...rest } = flat;
  // The default there, and never what is here.
  if (buffered !== undefined && Number(buffered) === 0) {
    notes.push(
      `${who}: buffered_io ${JSON.stringify(buffered)} (direct I/O) is not offered here: files ` +
        "go through the page cache, and Flush and FUA are an fdatasync",
    );
  }
  if (isObject(ana) && rest["ana_grpid"] === undefined) rest["ana_grpid"] = ana["grpid"];
  const picked = pick(rest, NAMESPACE_KEYS, who, notes);
  for (const key of ["device_uuid", "device_nguid"]) {
    if (NIL_UUID.test(String(picked[key]))) delete picked[key];
    else if (picked[key] !== undefined) picked[key] = String(picked[key]);
  }
  return picked;
}

function port(entry: unknown, notes: string[]): unknown[] {
  if (!isObject(entry)) return [entry];
  const who = `port ${String(entry["portid"])}`;
  const flat = flatten(entry);
  const transport = String(flat["addr_trtype"] ?? "");
  if (transport !== "tcp") {
    notes.push(`${who}: transport "${transport}" is not served here, only tcp: port left out`);
    return [];
  }
  const { ana_groups: groups, referrals, ...rest } = flat;
  const picked = pick(rest, [...PORT_KEYS, ...PORT_ATTRS], who, notes);
  picked["ana_groups"] = list(groups).map((one) => {
    if (!isObject(one)) return one;
    const state = isObject(one["ana"]) ? one["ana"]["state"] : undefined;
    return { grpid: one["grpid"], ...(state === undefined ? {} : { ana_state: state }) };
  });
  picked["referrals"] = list(referrals).map((one) =>
    isObject(one) ? pick(flatten(one), REFERRAL_KEYS, `${who}, referral`, notes) : one,
  );
  return [picked];
}
