/**
 * A machine as a file, `machine.json`: what `peerlane capture` writes, and what survives from any
 * import. Versioned; read back exactly, `parseMachineJson` of {@link serializeMachine} is the same
 * machine.
 *
 * One function per line, so that two captures can be compared with diff. Names of functions are
 * written as people write them; configuration space is base64 without its trailing zeros; entries
 * of `unknown`, which recur in every function, are kept once in a table.
 */

import { formatBdf } from "../core/index.ts";
import type { Machine, Unknown } from "./snapshot.ts";

export const MACHINE_JSON_FORMAT = "peerlane-machine";
/** Raised when a reader of the version before would misread the file. */
export const MACHINE_JSON_VERSION = 1;

/** Configuration space as text: how long it was, and its bytes up to the last that is not zero. */
export type Config = { bytes: number; base64: string };

/** True when the first bytes are of a machine.json of any version. */
export function isMachineJson(head: string): boolean {
  return /^\s*\{/.test(head) && new RegExp(`"format"\\s*:\\s*"${MACHINE_JSON_FORMAT}"`).test(head);
}

function packConfig(config: Uint8Array | null): Config | null {
  if (config === null) return null;
  let end = config.length;
  while (end > 0 && config[end - 1] === 0) end--;
  return { bytes: config.length, base64: btoa(String.fromCharCode(...config.subarray(0, end))) };
}

/** The machine as text. */
export function serializeMachine(machine: Machine): string {
  const unknowns: Unknown[] = [];
  const positions = new Map<string, number>();
  const positionOf = (entry: Unknown): number => {
    const key = `${entry.field}\n${entry.consequence}`;
    let position = positions.get(key);
    if (position === undefined) {
      position = unknowns.push({ field: entry.field, consequence: entry.consequence }) - 1;
      positions.set(key, position);
    }
    return position;
  };
  const functions = machine.functions.map((fn) =>
    JSON.stringify({
      ...fn,
      bdf: formatBdf(fn.bdf),
      physicalFunction: fn.physicalFunction === null ? null : formatBdf(fn.physicalFunction),
      config: packConfig(fn.config),
      unknown: fn.unknown.map(positionOf),
    }),
  );
  const { name, sources, host, hostBridges, warnings } = machine;
  const head = {
    format: MACHINE_JSON_FORMAT,
    version: MACHINE_JSON_VERSION,
    name,
    sources,
    host,
    hostBridges,
    warnings,
  };
  const lines = Object.entries({ ...head, unknowns }).map(
    ([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`,
  );
  return `{\n${lines.join(",\n")},\n"functions": [\n${functions.join(",\n")}\n]\n}\n`;
}
