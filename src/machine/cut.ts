/**
 * Signs that a dump was cut between two functions, which no importer sees: each record is whole,
 * and the rest of the machine is missing.
 *
 * Certain: a switch's upstream port without a function on its bus, since a switch has downstream
 * ports. Likely: several ports after whose buses nothing comes, although their links are up; one
 * alone is common, an idle slot that keeps its link. Leaves out: a cut that takes whole root buses.
 */

import { bdfBus, bdfDomain, busKey, formatBdf } from "../core/index.ts";
import { isUnknown, type PciFunction, PortType } from "./snapshot.ts";

/** Ports with a link and nothing below, beyond the last function, that make a cut likely. */
const LINKED_PORTS_MIN = 2;
const NAMES_MAX = 4;

/** Warnings, each with what is missing, where, and what to do; `functions` sorted by name. */
export function signsOfCut(functions: readonly PciFunction[], file: string): string[] {
  const buses = new Set(functions.map(({ bdf }) => busKey(bdfDomain(bdf), bdfBus(bdf))));
  const last = functions.at(-1);
  if (last === undefined) return [];
  const empty = functions.filter(
    ({ bdf, bridge }) =>
      bridge !== null &&
      bridge.secondary > bdfBus(bdf) &&
      !buses.has(busKey(bdfDomain(bdf), bridge.secondary)),
  );
  const isTold = (fn: PciFunction): boolean =>
    !isUnknown(fn, "pcie") && !isUnknown(fn, "pcie.portType");
  const switches = empty.filter(
    (fn) => fn.pcie?.portType === PortType.switchUpstream && isTold(fn),
  );
  const linked = empty.filter(
    ({ pcie, bridge, bdf }) =>
      (pcie?.portType === PortType.rootPort || pcie?.portType === PortType.switchDownstream) &&
      pcie.link !== null &&
      pcie.link.width > 0 &&
      pcie.link.generation > 0 &&
      bdfDomain(bdf) === bdfDomain(last.bdf) &&
      (bridge?.secondary ?? 0) > bdfBus(last.bdf),
  );
  const found = [...switches, ...(linked.length >= LINKED_PORTS_MIN ? linked : [])];
  if (found.length === 0) return [];
  const names = found.slice(0, NAMES_MAX).map(({ bdf }) => formatBdf(bdf));
  const more = found.length > names.length ? ` and ${found.length - names.length} more` : "";
  return [
    `${file}: it looks cut after ${formatBdf(last.bdf)}: nothing is below ${names.join(", ")}` +
      `${more}, where something must be; what is missing takes no part in any answer. ` +
      "Take the dump again, whole",
  ];
}
