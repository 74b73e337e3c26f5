/**
 * Where two sources of one machine contradict each other about the same function. The more precise
 * one decides; what the other said becomes a warning, because it often means that the dumps are of
 * different days, and the reader should know.
 *
 * Leaves out: names, which differ with the version of the PCI ID database, and sizes of BARs, which
 * only one kind of source tells.
 */

import { formatBdf, hex } from "../core/index.ts";
import type { HostFacts } from "./host-facts.ts";
import { isUnknown, type LinkFacts, type PciFunction } from "./snapshot.ts";

/** One fact as both sources have it; null when one of them does not tell. */
type Fact = (fn: PciFunction) => string | null;

const link = (facts: LinkFacts | null | undefined): string | null =>
  facts == null ? null : `gen${facts.generation} x${facts.width}`;
const told = (fn: PciFunction, field: string, value: string | null): string | null =>
  isUnknown(fn, field) ? null : value;

const FACTS: Readonly<Record<string, Fact>> = {
  class: (fn) => told(fn, "classCode", hex(fn.classCode >>> 8, 4)),
  "NUMA node": (fn) => (fn.numaNode === null ? null : String(fn.numaNode)),
  "IOMMU group": (fn) => (fn.iommuGroup === null ? null : String(fn.iommuGroup)),
  driver: (fn) => fn.driver,
  "secondary bus": (fn) => (fn.bridge === null ? null : hex(fn.bridge.secondary, 2)),
  "port type": (fn) =>
    told(fn, "pcie.portType", fn.pcie === null ? null : String(fn.pcie.portType)),
  link: (fn) => told(fn, "pcie.link", told(fn, "pcie.link.width", link(fn.pcie?.link))),
  "ACS control": (fn) => (fn.acs === null ? null : hex(fn.acs.control, 4)),
  "Command register": (fn) => told(fn, "command", fn.command === null ? null : hex(fn.command, 4)),
};

/** Contradictions collected over all functions; {@link toWarnings} tells them briefly. */
export class Disagreements {
  private readonly found = new Map<string, { first: string; count: number }>();

  /** Compares what both sources know of one function; `base` is the one that decides. */
  compare(
    base: PciFunction,
    other: PciFunction,
    places: { readonly base: string; readonly other: string },
  ): void {
    for (const [name, fact] of Object.entries(FACTS)) {
      const mine = fact(base);
      const theirs = fact(other);
      if (mine === null || theirs === null || mine === theirs) continue;
      this.add(
        `${name}|${places.base}|${places.other}`,
        `${name} of ${formatBdf(base.bdf)} is ${mine} in ${places.base}, which is taken, ` +
          `and ${theirs} in ${places.other}`,
      );
    }
  }

  /**
   * A function that is another device in the other source: nothing of that source is taken for it.
   */
  otherDevice(message: string, places: { readonly base: string; readonly other: string }): void {
    this.add(`device|${places.base}|${places.other}`, `${message}: what it says of it is left out`);
  }

  private add(key: string, first: string): void {
    const entry = this.found.get(key) ?? { first, count: 0 };
    entry.count++;
    this.found.set(key, entry);
  }

  toWarnings(): string[] {
    return [...this.found.values()].map(({ first, count }) =>
      count === 1 ? first : `${first}; so do ${count - 1} more functions`,
    );
  }
}

const HOST_FACTS = ["cpuVendor", "cpuFamily", "architecture", "kernelVersion", "iommu"] as const;

/** Host facts that two sources tell differently; the first one is taken. */
export function hostDisagreements(
  sources: readonly { readonly file: string; readonly host: HostFacts }[],
): string[] {
  const warnings: string[] = [];
  for (const fact of HOST_FACTS) {
    const [first, ...others] = sources.filter(({ host }) => host[fact] != null);
    for (const { file, host } of others) {
      if (host[fact] === first?.host[fact]) continue;
      warnings.push(
        `${fact} is ${first?.host[fact]} in ${first?.file}, which is taken, ` +
          `and ${host[fact]} in ${file}`,
      );
    }
  }
  return warnings;
}
