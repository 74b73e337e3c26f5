/**
 * The comparison: one machine, one workload, five descriptions; registration, CPU per I/O, the
 * IOMMU over a life, what works, and where bytes land when nobody asks again. The report is plain
 * data; render.ts, render-html.ts and csv.ts make text of it.
 *
 * Leaves out: timed bandwidth: see `limits`.
 */

import { type Bdf, formatBdf, PeerlaneError } from "../../core/index.ts";
import {
  deviceKind,
  type IommuMode,
  type Machine,
  MachineIndex,
  type PciFunction,
} from "../../machine/index.ts";
import type { Clock } from "../../platform/index.ts";
import type { Cell } from "./cell.ts";
import { type CompareDescription, DESCRIPTIONS, openDescription } from "./descriptions.ts";
import { gpuColumns } from "./gpu-bar.ts";
import { type IoCost, measureIos } from "./io-cost.ts";
import { type IommuLifeRow, iommuLife } from "./iommu-life.ts";
import { type LandingRow, landings } from "./landing.ts";
import { LIMITS, METHOD } from "./method.ts";
import { protectionColumns } from "./protection.ts";
import { measureRegistration, REGISTER_SIZES, type RegistrationRow } from "./registration.ts";
import { type CompareSubject, chooseSubject, setUp } from "./setup.ts";
import { chooseLegs, chooseStrangers } from "./stack-setup.ts";
import { stackColumns } from "./stacking.ts";
import { type CompareWorkload, DEFAULT_WORKLOAD } from "./workload.ts";
import { worksColumns } from "./works.ts";

export const COMPARE_VERSION = 2;

export interface IoRow {
  readonly description: CompareDescription;
  readonly route: "bus" | "host-bridge";
  readonly iommu: IommuMode;
  /** Null where the description refuses; {@link refusal} says why. */
  readonly cost: IoCost | null;
  readonly refusal: string | null;
  /** Addresses worked out when it was opened. */
  readonly translatedAtOpening: number;
}

export interface WorksRow {
  readonly name: string;
  readonly what: string;
  readonly cells: Readonly<Record<CompareDescription, Cell>>;
}

export interface CompareReport {
  readonly version: number;
  readonly machine: string;
  readonly owner: string;
  readonly bar: number;
  readonly near: string;
  readonly far: string | null;
  /** NVMe controllers of the stacked queues; `standIn`: the dump has no SSD in such a place. */
  readonly legs: readonly { readonly function: string; readonly standIn: boolean }[];
  readonly workload: CompareWorkload;
  readonly descriptions: readonly CompareDescription[];
  readonly registration: readonly RegistrationRow[];
  readonly io: readonly IoRow[];
  /** Strict. */
  readonly iommuLife: readonly IommuLifeRow[];
  readonly works: readonly WorksRow[];
  /** Bare DMA addresses where nobody asks again. */
  readonly landings: readonly LandingRow[];
  readonly method: readonly string[];
  readonly limits: readonly string[];
}

export interface CompareOptions {
  readonly clock: Pick<Clock, "nowNs">;
  /** Sizes of BARs to register. Default 16 MiB, 16, 80 and 192 GiB. */
  readonly sizes?: readonly number[];
  /** Batches per figure. Default: as many as come to 100,000 I/Os. */
  readonly rounds?: number;
  /** Default: 4 KiB writes all over the memory. */
  readonly workload?: CompareWorkload;
  /**
   * A second machine for the landings, one whose bus addresses differ from host bridge to host
   * bridge. Default: none.
   */
  readonly landingMachine?: Machine | null;
}

const MEASURED_IOS = 100_000;

/** Runs everything. Throws `nothing-to-compare` when the machine has no pair for it. */
export async function compareDescriptions(
  machine: Machine,
  options: CompareOptions,
): Promise<CompareReport> {
  const subject = chooseSubject(machine);
  const off = setUp(machine, subject, "off");
  const { clock } = options;
  const registration = measureRegistration(off, clock, options.sizes ?? REGISTER_SIZES);
  const workload = options.workload ?? DEFAULT_WORKLOAD;
  const rounds = options.rounds ?? Math.ceil(MEASURED_IOS / workload.depth);
  const run = { machine, subject, workload, clock, rounds };
  const io = measureRoute(run, "bus", "off");
  if (subject.far !== null) {
    io.push(...measureRoute(run, "host-bridge", "passthrough"));
    io.push(...measureRoute(run, "host-bridge", "strict"));
  }
  const life: IommuLifeRow[] = [];
  for (const kind of DESCRIPTIONS) life.push(...(await iommuLife(kind, machine, subject)));
  const legs = chooseLegs(machine, subject.owner);
  const index = new MachineIndex(machine);
  return {
    version: COMPARE_VERSION,
    machine: machine.name,
    owner: formatBdf(subject.owner),
    bar: subject.bar,
    near: formatBdf(subject.near),
    far: subject.far === null ? null : formatBdf(subject.far),
    legs: legs.map((bdf) => ({
      function: formatBdf(bdf),
      standIn: deviceKind(index.functions[index.requireIndex(bdf)] as PciFunction) !== "nvme",
    })),
    workload,
    descriptions: DESCRIPTIONS,
    registration,
    io,
    iommuLife: life,
    works: await runWorks(machine, subject, legs),
    landings: [
      ...(await landingsOf(machine)),
      ...(options.landingMachine == null ? [] : await landingsOf(options.landingMachine)),
    ],
    method: METHOD,
    limits: LIMITS,
  };
}

async function runWorks(
  machine: Machine,
  subject: CompareSubject,
  legs: readonly Bdf[],
): Promise<WorksRow[]> {
  const columns = [
    ...worksColumns(machine, subject),
    ...gpuColumns(machine, subject),
    ...stackColumns(machine, subject, legs),
    ...protectionColumns(machine, subject, legs),
  ];
  const works: WorksRow[] = [];
  for (const { name, what, run } of columns) {
    const cells: Partial<Record<CompareDescription, Cell>> = {};
    for (const description of DESCRIPTIONS) cells[description] = await run(description);
    works.push({ name, what, cells: cells as Record<CompareDescription, Cell> });
  }
  return works;
}

/** A first leg by bus, and one from everywhere else that the owner's machine has. */
async function landingsOf(machine: Machine): Promise<LandingRow[]> {
  const subject = chooseSubject(machine);
  const [first] = chooseLegs(machine, subject.owner);
  if (first === undefined) return [];
  return landings(machine, subject, first, chooseStrangers(machine, subject.owner));
}

interface IoRun {
  readonly machine: Machine;
  readonly subject: CompareSubject;
  readonly workload: CompareWorkload;
  readonly clock: Pick<Clock, "nowNs">;
  readonly rounds: number;
}

function measureRoute(run: IoRun, route: IoRow["route"], iommu: IommuMode): IoRow[] {
  const { machine, subject, workload, clock, rounds } = run;
  const opened = DESCRIPTIONS.map((description) => {
    const setup = setUp(machine, subject, iommu);
    const device = route === "bus" ? setup.near : (setup.far ?? setup.near);
    const row = { description, route, iommu } as const;
    const handle = tryOpen(() => openDescription(description, setup, setup.provider(), [device]));
    return { row, setup, device, handle };
  });
  const costs = new Map<CompareDescription, IoCost>();
  const subjects = opened.flatMap(({ row, setup, device, handle }) =>
    "refusal" in handle ? [] : [{ description: row.description, setup, device, handle }],
  );
  measureIos(subjects, workload, clock, rounds).forEach((cost, i) => {
    costs.set(subjects[i].description, cost);
  });
  return opened.map(({ row, handle }) => ({
    ...row,
    cost: costs.get(row.description) ?? null,
    translatedAtOpening: "refusal" in handle ? 0 : handle.translatedAtOpening,
    refusal: "refusal" in handle ? handle.refusal : null,
  }));
}

function tryOpen<T extends object>(open: () => T): T | { readonly refusal: string } {
  try {
    return open();
  } catch (error) {
    if (error instanceof PeerlaneError) return { refusal: error.code };
    throw error;
  }
}
