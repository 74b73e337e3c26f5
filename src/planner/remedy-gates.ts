/**
 * Gates on the way of a request that are closed by a register: Bus Master Enable and Memory Space
 * Enable of the two functions and of the bridges between, and ACS Upstream Forwarding of a port
 * that is to pass on what a port below it redirected. No peer-to-peer rule looks at them, so a pair
 * can be permitted and still move nothing. Opened on a copy, and shown only if the request then
 * arrives.
 */

import { type Bdf, formatBdf, hexDigits } from "../core/index.ts";
import type { RouteReport } from "../fabric/index.ts";
import {
  type IommuMode,
  type Machine,
  MachineIndex,
  type PciFunction,
  setAcsControl,
  setCommand,
} from "../machine/index.ts";
import type { Verdict } from "../p2p/index.ts";
import { AcsBit, Command } from "../spec/pcie/index.ts";
import { formFor } from "./address.ts";
import { PathProbe } from "./probe.ts";

export interface GateRemedy {
  readonly text: string;
  readonly command: string;
}

const MEMORY_SPACE = Command.memorySpaceEnable.bits;
const BUS_MASTER = Command.busMasterEnable.bits;

/** Closed gates whose opening lets the requests through; empty where none is closed. */
export function gateRemedies(
  index: MachineIndex,
  probe: PathProbe,
  verdict: Verdict,
  mode: IommuMode,
): GateRemedy[] {
  const form = formFor(verdict, mode);
  const refusal = (one: PathProbe): RouteReport | null =>
    DIRECTIONS.map((direction) => one.route(mode, form, direction)).find(
      ({ status }) => status !== 0,
    ) ?? null;
  const rebuilt = (machine: Machine): PathProbe =>
    new PathProbe(new MachineIndex(machine), probe.initiator, probe.owner, probe.bar);
  const before = refusal(probe);
  if (before === null) return [];
  const gates = closedGates(index, probe.initiator, probe.owner);
  let machine: Machine = index.machine;
  for (const { fn, bits } of gates) {
    machine = setCommand(machine, fn.bdf, (fn.command ?? 0) | bits);
  }
  const commands = gates.map(({ fn, bits }) => ({
    text: `Set ${bitNames(bits)} of ${formatBdf(fn.bdf)}; its driver does when it binds.`,
    command: `setpci -s ${formatBdf(fn.bdf)} COMMAND=${hexDigits(bits, 4)}:${hexDigits(bits, 4)}`,
  }));
  const opened = gates.length === 0 ? before : refusal(rebuilt(machine));
  if (opened === null) return commands;
  const port = turnedBackAt(index, opened);
  if (port === null) return [];
  const { control } = port.acs as NonNullable<PciFunction["acs"]>;
  const forwarding = setAcsControl(machine, port.bdf, control | AcsBit.upstreamForwarding);
  if (refusal(rebuilt(forwarding)) !== null) return [];
  const uf = hexDigits(AcsBit.upstreamForwarding, 4);
  return [
    ...commands,
    {
      text:
        `Set UF at ${formatBdf(port.bdf)}: it turns back what a port below it redirects ` +
        "to the root " +
        "complex, because the address is in its own window.",
      command: `setpci -s ${formatBdf(port.bdf)} ECAP_ACS+0x6.w=${uf}:${uf}`,
    },
  ];
}

const DIRECTIONS = ["write", "read"] as const;

/** The port that refused a request for its own window; null where something else was in the way. */
function turnedBackAt(index: MachineIndex, { hops }: RouteReport): PciFunction | null {
  const last = hops.at(-1);
  const fn = last?.bdf == null ? null : index.functionAt(last.bdf);
  if (fn === null || fn.acs === null || last?.decision !== "refuses") return null;
  return (fn.acs.control & AcsBit.upstreamForwarding) === 0 ? fn : null;
}

interface Gate {
  readonly fn: PciFunction;
  readonly bits: number;
}

/**
 * The initiator and the bridges above it must master the bus; the owner and its bridges must
 * decode.
 */
function closedGates(index: MachineIndex, initiator: Bdf, owner: Bdf): Gate[] {
  const needed = new Map<number, number>();
  const need = (start: number, bits: number): void => {
    for (let at = start; at >= 0; at = index.parentOf(at)) {
      needed.set(at, (needed.get(at) ?? 0) | bits);
    }
  };
  // A read's data comes back the other way, so bridges need both.
  need(index.requireIndex(initiator), BUS_MASTER);
  need(index.requireIndex(owner), MEMORY_SPACE);
  const gates: Gate[] = [];
  for (const [at, bits] of needed) {
    const fn = index.functions[at];
    const missing = fn.command === null ? 0 : bits & ~fn.command;
    if (missing !== 0) gates.push({ fn, bits: missing });
  }
  return gates;
}

const bitNames = (bits: number): string =>
  [
    [BUS_MASTER, "Bus Master Enable"],
    [MEMORY_SPACE, "Memory Space Enable"],
  ]
    .filter(([bit]) => (bits & (bit as number)) !== 0)
    .map(([, name]) => name)
    .join(" and ");
