/**
 * The comparison: one machine, five descriptions, three tables (registration, CPU per I/O, what
 * works). The report is plain data; render.ts makes text of it.
 *
 * Leaves out: raid0, multipath, protection information and timed bandwidth: see `limits`.
 */

import { formatBdf, PeerlaneError } from "../../core/index.ts";
import type { IommuMode, Machine } from "../../machine/index.ts";
import type { Clock } from "../../platform/index.ts";
import { type CompareDescription, DESCRIPTIONS, openDescription } from "./descriptions.ts";
import { type IoCost, measureIos } from "./io-cost.ts";
import { measureRegistration, REGISTER_SIZES, type RegistrationRow } from "./registration.ts";
import { type CompareSubject, chooseSubject, setUp } from "./setup.ts";
import { type Cell, worksColumns } from "./works.ts";

export const COMPARE_VERSION = 1;

export interface IoRow {
  readonly description: CompareDescription;
  readonly route: "bus" | "host-bridge";
  readonly iommu: IommuMode;
  /** Null where the description refuses; {@link refusal} says why. */
  readonly cost: IoCost | null;
  readonly refusal: string | null;
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
  readonly descriptions: readonly CompareDescription[];
  readonly registration: readonly RegistrationRow[];
  readonly io: readonly IoRow[];
  readonly works: readonly WorksRow[];
  readonly method: readonly string[];
  readonly limits: readonly string[];
}

export interface CompareOptions {
  readonly clock: Pick<Clock, "nowNs">;
  /** Sizes of BARs to register. Default 16 MiB, 16, 80 and 192 GiB. */
  readonly sizes?: readonly number[];
  /** Rounds of 256 I/Os per figure. Default 400. */
  readonly rounds?: number;
}

const ROUNDS = 400;

const METHOD = [
  "Registration: bytes are those of the arrays that the description made (not the provider's " +
    "pool, the same for all); the time includes that pool.",
  "Kernel: 64 bytes per 4 KiB page, the size of struct page on 64-bit Linux.",
  "CPU per I/O: median of rounds of 256 I/Os of 4 KiB over 16 MiB, the five in turns; build " +
    "takes hold of the memory (pin, lease count) and makes the bio; unmap lets go; total is " +
    "build, map and unmap.",
  "What works: each cell is a run on the simulated fabric; the owner's side checks the bytes.",
];
const LIMITS = [
  "Times are of the wall clock: on a busy machine they differ by a factor of two from run to " +
    "run, and the order of close ones with them. `npm run bench` claims ratios.",
  "Under strict, allocating an IOVA and filling the simulated page table is most of map and " +
    "unmap. It is the same code for page, pfn and phys: where these three differ there, it is " +
    "the state of the process (each has a fabric of its own), not the description.",
  "JavaScript on a simulated fabric: compare the columns with each other, not with a kernel.",
  "Page entries beyond 2 GiB are not allocated: such a row is extrapolated and marked with ~.",
  "The simulated IOMMU's maps and flushes are function calls; hardware waits for a flush, so the " +
    "figures flatter page, pfn and phys under strict.",
  "Splitting is measured, merging of requests is not.",
  "raid0, multipath and protection information are not run yet.",
];

/** Runs all three tables. Throws `nothing-to-compare` when the machine has no pair for it. */
export async function compareDescriptions(
  machine: Machine,
  options: CompareOptions,
): Promise<CompareReport> {
  const subject = chooseSubject(machine);
  const off = setUp(machine, subject, "off");
  const { clock } = options;
  const registration = measureRegistration(off, clock, options.sizes ?? REGISTER_SIZES);
  const rounds = options.rounds ?? ROUNDS;
  const io = measureRoute(machine, subject, "bus", clock, rounds);
  if (subject.far !== null) {
    io.push(...measureRoute(machine, subject, "host-bridge", clock, rounds));
  }
  const works: WorksRow[] = [];
  for (const { name, what, run } of worksColumns(machine, subject)) {
    const cells: Partial<Record<CompareDescription, Cell>> = {};
    for (const description of DESCRIPTIONS) cells[description] = await run(description);
    works.push({ name, what, cells: cells as Record<CompareDescription, Cell> });
  }
  return {
    version: COMPARE_VERSION,
    machine: machine.name,
    owner: formatBdf(subject.owner),
    bar: subject.bar,
    near: formatBdf(subject.near),
    far: subject.far === null ? null : formatBdf(subject.far),
    descriptions: DESCRIPTIONS,
    registration,
    io,
    works,
    method: METHOD,
    limits: LIMITS,
  };
}

/** By bus without an IOMMU, where mapping is cheapest; by host bridge with a strict one. */
function measureRoute(
  machine: Machine,
  subject: CompareSubject,
  route: IoRow["route"],
  clock: Pick<Clock, "nowNs">,
  rounds: number,
): IoRow[] {
  const iommu = route === "bus" ? "off" : "strict";
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
  measureIos(subjects, clock, rounds).forEach((cost, i) => {
    costs.set(subjects[i].description, cost);
  });
  return opened.map(({ row, handle }) => ({
    ...row,
    cost: costs.get(row.description) ?? null,
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
