/**
 * What a preflight is about: a use (GPUDirect Storage and so on), the machine, which of its
 * functions issue the DMA and which have the memory, and for each memory the initiator that is
 * nearest to it.
 */

import type { Bdf } from "../../core/index.ts";
import { deviceKind, type Machine, MachineIndex, type PciFunction } from "../../machine/index.ts";
import { MapType, type Rules } from "../../p2p/index.ts";
import { isOfInterest } from "../interest.ts";
import { rulesFor } from "../machine-rules.ts";
import { FILE_TO_BE_NAMED } from "../page.ts";

export const USES = ["gds", "gdr", "nvmeof-cmb", "vfio"] as const;
export type Use = (typeof USES)[number];

export const USE_TITLES: Readonly<Record<Use, string>> = {
  gds: "GPUDirect Storage: NVMe reads and writes GPU memory",
  gdr: "GPUDirect RDMA: a NIC reads and writes GPU memory",
  "nvmeof-cmb": "NVMe-oF target with CMB: a NIC reads and writes NVMe memory",
  vfio: "VFIO: devices given to a virtual machine or a user-space driver",
};

export type CheckState = "ok" | "fail" | "unknown";

export interface CheckResult {
  readonly id: string;
  /** What is checked, in a few words. */
  readonly title: string;
  readonly state: CheckState;
  /** What was seen, with register, file or parameter. */
  readonly evidence: string;
  /** What to do; null when nothing is. */
  readonly remedy: string | null;
  /** A line to paste. */
  readonly command: string | null;
}

/** One check; it may say several things, or nothing where it does not apply. */
export type Check = (subject: Subject) => readonly CheckResult[];

/** A memory and the initiator that is nearest to it. */
export interface NearestPair {
  readonly owner: number;
  readonly initiator: number;
  readonly mapType: MapType;
  readonly distance: number;
}

export interface Subject {
  readonly use: Use;
  readonly machine: Machine;
  readonly index: MachineIndex;
  readonly rules: Rules;
  /** Positions. */
  readonly initiators: readonly number[];
  readonly owners: readonly number[];
  readonly pairs: readonly NearestPair[];
  /** How `explain` is given this machine: `-m lspci.txt --kernel 5.15`. */
  readonly given: string;
  functionAt(position: number): PciFunction;
  bdfOf(position: number): Bdf;
}

/** Makes the machine ready for the checks of one use. */
export function subjectFor(
  machine: Machine,
  use: Use,
  rulesId?: string,
  given = FILE_TO_BE_NAMED,
): Subject {
  const index = new MachineIndex(machine);
  const { rules } = rulesFor(machine, rulesId);
  const { initiators, owners } = rolesOf(machine, use);
  return {
    use,
    machine,
    index,
    rules,
    initiators,
    owners,
    given,
    pairs: owners.flatMap((owner) => nearest(rules, owner, initiators)),
    functionAt: (position) => machine.functions[position],
    bdfOf: (position) => machine.functions[position].bdf,
  };
}

/** Display controllers of management boards: Matrox, ASPEED. */
const BOARD_VGA = new Set([0x102b, 0x1a03]);

function rolesOf(machine: Machine, use: Use): Pick<Subject, "initiators" | "owners"> {
  const all = machine.functions.map((_, i) => i).filter((i) => isOfInterest(machine.functions[i]));
  const of = (kind: string): number[] =>
    all.filter((i) => {
      const fn = machine.functions[i];
      return deviceKind(fn) === kind && !BOARD_VGA.has(fn.vendorId);
    });
  switch (use) {
    case "gds":
      return { initiators: of("nvme"), owners: of("gpu") };
    case "gdr":
      return { initiators: of("nic"), owners: of("gpu") };
    case "nvmeof-cmb":
      return { initiators: of("nic"), owners: of("nvme") };
    default:
      return { initiators: all, owners: all };
  }
}

/** Direct before detours, then by distance, then by name. */
function nearest(rules: Rules, owner: number, initiators: readonly number[]): NearestPair[] {
  const rank = (mapType: MapType): number =>
    mapType === MapType.busAddr ? 0 : mapType === MapType.thruHostBridge ? 1 : 2;
  const others = initiators.filter((one) => one !== owner);
  const pairs = others.map((initiator) => ({
    owner,
    initiator,
    mapType: rules.mapType(owner, initiator),
    distance: rules.distance(owner, initiator),
  }));
  pairs.sort(
    (a, b) =>
      rank(a.mapType) - rank(b.mapType) || a.distance - b.distance || a.initiator - b.initiator,
  );
  return pairs.slice(0, 1);
}

/** Short forms, so that checks read as what they check. */
export const ok = (id: string, title: string, evidence: string): CheckResult => ({
  id,
  title,
  state: "ok",
  evidence,
  remedy: null,
  command: null,
});

export const fail = (
  id: string,
  title: string,
  evidence: string,
  remedy: string,
  command: string | null = null,
): CheckResult => ({ id, title, state: "fail", evidence, remedy, command });

export const unknown = (
  id: string,
  title: string,
  evidence: string,
  remedy: string,
  command: string | null = null,
): CheckResult => ({ id, title, state: "unknown", evidence, remedy, command });
