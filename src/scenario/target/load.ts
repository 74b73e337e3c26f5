/**
 * Reads the configuration of a target: YAML of its own, or the JSON of nvmetcli. Beyond the schema,
 * names must be unique and refer to what is there; every complaint has file, line, column and path.
 */

import { NVMET_SUBSYSTEMS_MAX } from "../../core/index.ts";
import { TCP_ADMIN_IN_CAPSULE_BYTES } from "../../spec/nvmf/index.ts";
import { YamlSource } from "../yaml-source.ts";
import { importNvmetcli, isNvmetcli, nvmetcliPath } from "./import-nvmetcli.ts";
import { type TargetConfig, targetConfigSchema } from "./schema.ts";

export interface LoadedConfig {
  readonly config: TargetConfig;
  /** What an import left out, for people. */
  readonly notes: readonly string[];
}

const KIND = {
  code: "bad-target-config",
  what: "a target configuration",
  remedy: "docs/guide/target-config.md lists every key with its values",
};

type Path = readonly PropertyKey[];
/** Something wrong with a whole configuration, and where. */
interface Complaint {
  readonly path: Path;
  readonly message: string;
  readonly remedy: string;
}

/** Parses and checks. Throws `UsageError` `bad-target-config`. */
export function parseTargetConfig(text: string, fileName: string): LoadedConfig {
  const source = new YamlSource(text, fileName, KIND);
  const plain = source.plain();
  const isImport = isNvmetcli(plain);
  const { value, notes } = isImport ? importNvmetcli(plain) : { value: plain ?? {}, notes: [] };
  const original = isImport ? nvmetcliPath : (path: Path): Path => path;
  const config = source.check(targetConfigSchema, value, original);
  const complaint = findComplaint(config);
  if (complaint !== null) {
    const { path, message, remedy } = complaint;
    throw source.error(original(path), message, 0, remedy);
  }
  return {
    config: besideFile(fileName, config),
    notes: notes.map((note) => `${fileName}: ${note}`),
  };
}

/** Paths in a configuration are relative to its file. */
function besideFile(fileName: string, config: TargetConfig): TargetConfig {
  const slash = fileName.lastIndexOf("/");
  if (slash < 0) return config;
  const beside = (path: string): string =>
    path.startsWith("/") ? path : `${fileName.slice(0, slash)}/${path}`;
  const { capture, control, machine, subsystems } = config;
  return {
    ...config,
    machine: machine.map(beside),
    ...(control === undefined ? {} : { control: beside(control) }),
    ...(capture === undefined ? {} : { capture: { ...capture, path: beside(capture.path) } }),
    subsystems: subsystems.map((subsystem) => ({
      ...subsystem,
      namespaces: subsystem.namespaces.map(({ device_path: path, ...rest }) => ({
        ...rest,
        ...(path === undefined ? {} : { device_path: beside(path) }),
      })),
    })),
  };
}

/** The first thing that is wrong with a configuration as a whole; null: nothing. */
export function findComplaint(config: TargetConfig): Complaint | null {
  return (
    duplicateIn(config) ??
    config.subsystems.flatMap(namespaceComplaints)[0] ??
    config.ports.flatMap((_, i) => portComplaints(config, i))[0] ??
    null
  );
}

function duplicateIn(config: TargetConfig): Complaint | null {
  const { subsystems, ports, hosts } = config;
  if (subsystems.length > NVMET_SUBSYSTEMS_MAX) {
    const message = `${subsystems.length} subsystems are more than ${NVMET_SUBSYSTEMS_MAX}`;
    return { path: ["subsystems"], message, remedy: "start several targets" };
  }
  const lists: [Path, string, readonly (string | number)[]][] = [
    [["hosts"], "nqn", hosts.map(({ nqn }) => nqn)],
    [["subsystems"], "nqn", subsystems.map(({ nqn }) => nqn)],
    [["ports"], "portid", ports.map(({ portid }) => portid)],
  ];
  for (const [i, { namespaces, allowed_hosts }] of subsystems.entries()) {
    lists.push([["subsystems", i, "namespaces"], "nsid", namespaces.map(({ nsid }) => nsid)]);
    lists.push([["subsystems", i, "allowed_hosts"], "", allowed_hosts]);
  }
  for (const [i, port] of ports.entries()) {
    lists.push([["ports", i, "subsystems"], "", port.subsystems]);
    lists.push([["ports", i, "ana_groups"], "grpid", port.ana_groups.map(({ grpid }) => grpid)]);
    lists.push([["ports", i, "referrals"], "name", port.referrals.map(({ name }) => name)]);
  }
  for (const [path, key, values] of lists) {
    const at = values.findIndex((value, i) => values.indexOf(value) !== i);
    if (at < 0) continue;
    const where = key === "" ? [...path, at] : [...path, at, key];
    const message = `${values[at]} is there twice`;
    return { path: where, message, remedy: "take one of the two away" };
  }
  return null;
}

function namespaceComplaints(
  subsystem: TargetConfig["subsystems"][number],
  index: number,
): Complaint[] {
  return subsystem.namespaces.flatMap((namespace, i) =>
    namespace.size === undefined && namespace.device_path === undefined
      ? [
          {
            path: ["subsystems", index, "namespaces", i],
            message: "a namespace in memory needs a size",
            remedy: "add size: 1G, or device_path with a file",
          },
        ]
      : [],
  );
}

function portComplaints(config: TargetConfig, index: number): Complaint[] {
  const port = config.ports[index] as TargetConfig["ports"][number];
  const found: Complaint[] = [];
  const complain = (path: Path, message: string, remedy: string): void => {
    found.push({ path: ["ports", index, ...path], message, remedy });
  };
  for (const [i, nqn] of port.subsystems.entries()) {
    if (config.subsystems.some((subsystem) => subsystem.nqn === nqn)) continue;
    complain(["subsystems", i], `there is no subsystem ${nqn}`, "add it under subsystems");
  }
  const { addr_adrfam: family, addr_traddr: address, param_inline_data_size: inline } = port;
  if (family !== undefined && (family === "ipv6") !== address.includes(":")) {
    complain(["addr_adrfam"], `${address} is no ${family} address`, "correct one of the two");
  }
  if (inline !== undefined && inline > TCP_ADMIN_IN_CAPSULE_BYTES) {
    const message = `capsules carry at most ${TCP_ADMIN_IN_CAPSULE_BYTES} bytes here`;
    complain(["param_inline_data_size"], message, `write ${TCP_ADMIN_IN_CAPSULE_BYTES}, or less`);
  }
  const service = port.addr_trsvcid;
  const isTwin = (other: TargetConfig["ports"][number], i: number): boolean =>
    i < index && service !== 0 && other.addr_traddr === address && other.addr_trsvcid === service;
  if (config.ports.some(isTwin)) {
    const message = `another port listens on ${address}, port ${service}`;
    complain(["addr_trsvcid"], message, "choose another port number");
  }
  return found;
}
