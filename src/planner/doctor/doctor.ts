/**
 * Preflight: for each use an ordered list of checks, in the order in which they would stop it.
 * Failing ones are given first, then what could not be told, then what is fine; within each in that
 * order, so that the first line is what to fix first.
 */

import type { Machine } from "../../machine/index.ts";
import { acsParameters, iommuMode, kernelConfig, kernelVersion, modules } from "./checks-kernel.ts";
import { alignment, barSize, cmb, linearMap } from "./checks-memory.ts";
import { acs, commandBits, devices, links, provenRoutes, routes } from "./checks-route.ts";
import { drivers, mounts, multipath, stacking, virtualMachine } from "./checks-stack.ts";
import {
  type Check,
  type CheckResult,
  type CheckState,
  type Subject,
  subjectFor,
  type Use,
} from "./subject.ts";

/** In the order in which they would stop a transfer. */
const CHECKS: readonly Check[] = [
  devices,
  kernelVersion,
  kernelConfig,
  modules,
  drivers,
  cmb,
  barSize,
  commandBits,
  routes,
  iommuMode,
  acs,
  acsParameters,
  provenRoutes,
  linearMap,
  alignment,
  multipath,
  stacking,
  mounts,
  virtualMachine,
  links,
];

export interface UseReport {
  readonly use: Use;
  readonly state: CheckState;
  /** First failing first. */
  readonly results: readonly CheckResult[];
}

export interface DoctorReport {
  readonly machine: Machine;
  readonly uses: readonly UseReport[];
}

const ORDER: Readonly<Record<CheckState, number>> = { fail: 0, unknown: 1, ok: 2 };

/** Runs the checks of these uses; `given`: how `explain` is given this machine. */
export function examine(
  machine: Machine,
  uses: readonly Use[],
  rules?: string,
  given?: string,
): DoctorReport {
  return { machine, uses: uses.map((use) => examineUse(subjectFor(machine, use, rules, given))) };
}

function examineUse(subject: Subject): UseReport {
  const { use } = subject;
  const found = CHECKS.flatMap((check) => check(subject));
  // Without the devices nothing else says anything.
  const isEmpty = found[0]?.id === "devices" && found[0].state === "fail";
  const results = isEmpty
    ? found.slice(0, 1)
    : found.toSorted((a, b) => ORDER[a.state] - ORDER[b.state]);
  return { use, state: results[0]?.state ?? "ok", results };
}
