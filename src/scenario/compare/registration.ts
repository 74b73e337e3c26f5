/**
 * What it costs to make device memory usable, by size of the BAR: bytes that its arrays really
 * take, and the time. The provider (its pool) is part of the time, being the same for all five.
 *
 * Leaves out: garbage and objects of a few hundred bytes per registration; they do not grow with
 * the BAR.
 */

import { busAddr, PeerlaneError, physAddr } from "../../core/index.ts";
import { pageEntriesBytes } from "../../memory/index.ts";
import { Provider } from "../../p2p/index.ts";
import type { Clock } from "../../platform/index.ts";
import { type CompareDescription, DESCRIPTIONS, openDescription } from "./descriptions.ts";
import type { CompareSetup } from "./setup.ts";

const GIB = 2 ** 30;
export const REGISTER_SIZES: readonly number[] = [16 * 2 ** 20, 16 * GIB, 80 * GIB, 192 * GIB];

export interface RegistrationRow {
  readonly description: CompareDescription;
  readonly sizeBytes: number;
  /** By counting the arrays; where {@link extrapolated}, by formula. */
  readonly allocatedBytes: number;
  readonly nanoseconds: number;
  /** What Linux takes for it by its formula: 64 bytes per page, or nothing. */
  readonly kernelBytes: number;
  /** True where it was too large to be run: size by formula, time by proportion. */
  readonly extrapolated: boolean;
}

const ROUNDS = 3;
/** Where nothing else of an x86 machine is, aligned to all the sizes above. */
const BASE = 2 ** 42;

/** Rows of all descriptions, sizes ascending. */
export function measureRegistration(
  setup: CompareSetup,
  clock: Pick<Clock, "nowNs">,
  sizes: readonly number[],
): RegistrationRow[] {
  const rows: RegistrationRow[] = [];
  for (const description of DESCRIPTIONS) {
    let largest: RegistrationRow | null = null;
    for (const sizeBytes of sizes) {
      const row = measureOne(setup, clock, description, sizeBytes);
      const usable = row ?? extrapolate(largest, description, sizeBytes);
      if (usable === null) continue;
      if (row !== null) largest = row;
      rows.push(usable);
    }
  }
  return rows;
}

/** The best of some rounds; null when the entries are beyond their limit. */
function measureOne(
  setup: CompareSetup,
  clock: Pick<Clock, "nowNs">,
  description: CompareDescription,
  sizeBytes: number,
): RegistrationRow | null {
  let nanoseconds = Number.POSITIVE_INFINITY;
  let allocatedBytes = 0;
  // Large arrays once: their pages come from the system, whatever was compiled before.
  const rounds = description === "page" && sizeBytes > GIB ? 1 : ROUNDS;
  for (let round = 0; round < rounds; round++) {
    const start = clock.nowNs();
    const provider = providerOf(setup, sizeBytes);
    try {
      const handle = openDescription(description, setup, provider, [setup.near]);
      nanoseconds = Math.min(nanoseconds, clock.nowNs() - start);
      allocatedBytes = handle.registeredBytes;
    } catch (error) {
      if (error instanceof PeerlaneError && error.code === "page-entries") return null;
      throw error;
    }
  }
  return {
    description,
    sizeBytes,
    allocatedBytes,
    nanoseconds,
    kernelBytes: kernelBytes(description, sizeBytes),
    extrapolated: false,
  };
}

function providerOf({ subject }: CompareSetup, sizeBytes: number): Provider {
  const { owner, bar } = subject;
  const range = { owner, bar, barOffset: 0, phys: physAddr(BASE), bus: busAddr(BASE), sizeBytes };
  // As drivers of large memory do: pieces of 2 MiB.
  return new Provider(range, { granularity: 2 * 2 ** 20 });
}

const kernelBytes = (description: CompareDescription, sizeBytes: number): number =>
  description === "page" ? pageEntriesBytes(sizeBytes) : 0;

function extrapolate(
  largest: RegistrationRow | null,
  description: CompareDescription,
  sizeBytes: number,
): RegistrationRow | null {
  if (largest === null) return null;
  const factor = sizeBytes / largest.sizeBytes;
  return {
    ...largest,
    sizeBytes,
    allocatedBytes: largest.allocatedBytes * factor,
    nanoseconds: largest.nanoseconds * factor,
    kernelBytes: kernelBytes(description, sizeBytes),
    extrapolated: true,
  };
}
