/**
 * Access Control Services along a path: for every port and function on it the control word,
 * decoded, and which of the bits hurt this pair. Bits that are set and do not redirect are named as
 * such, because people blame them (SV above all) and clear them for nothing.
 */

import { type Bdf, formatBdf } from "../core/index.ts";
import { isUnknown, type MachineIndex, NONE } from "../machine/index.ts";
import { ACS_CONTROL_OFFSET, ACS_REDIRECT } from "../p2p/index.ts";
import { formatAcsWord } from "./acs-text.ts";

export interface AcsOnPath {
  readonly bdf: Bdf;
  /** On which side of the common bridge; `common` for the bridge itself. */
  readonly side: "initiator" | "common" | "owner";
  /** Null when the dump does not tell whether the function has ACS. */
  readonly control: number | null;
  /** Of the control word in configuration space; null where unknown. */
  readonly offset: number | null;
  /** `RR CR`: those set that redirect or block peer traffic. */
  readonly redirecting: string;
  /** `SV UF`: those set that do not. */
  readonly harmless: string;
}

/**
 * Every function on the way that has ACS, or may have: from the initiator up, then the owner's
 * side.
 */
export function acsOnPath(index: MachineIndex, initiator: Bdf, owner: Bdf): AcsOnPath[] {
  const from = standsAt(index, initiator);
  const to = standsAt(index, owner);
  const common = index.commonOf(from, to);
  const found: AcsOnPath[] = [];
  const visit = (start: number, side: AcsOnPath["side"]): void => {
    for (let at = start; at !== NONE && at !== common; at = index.parentOf(at)) {
      add(index, at, side, found);
    }
  };
  visit(from, "initiator");
  if (common !== NONE) add(index, common, "common", found);
  if (to !== from) visit(to, "owner");
  return found;
}

/** A virtual function stands where its physical function stands. */
function standsAt(index: MachineIndex, bdf: Bdf): number {
  const at = index.requireIndex(bdf);
  const { physicalFunction } = index.functions[at];
  const physical = physicalFunction === null ? NONE : index.indexOf(physicalFunction);
  return physical === NONE ? at : physical;
}

function add(index: MachineIndex, at: number, side: AcsOnPath["side"], found: AcsOnPath[]): void {
  const fn = index.functions[at];
  if (fn.acs === null) {
    if (!isUnknown(fn, "acs")) return;
    const nothing = { control: null, offset: null, redirecting: "", harmless: "" };
    found.push({ bdf: fn.bdf, side, ...nothing });
    return;
  }
  const { control, offset } = fn.acs;
  found.push({
    bdf: fn.bdf,
    side,
    control,
    offset: offset + ACS_CONTROL_OFFSET,
    redirecting: words(control & ACS_REDIRECT),
    harmless: words(control & 0x7f & ~ACS_REDIRECT),
  });
}

const words = (bits: number): string => (bits === 0 ? "" : formatAcsWord(bits));

/** Sentences about bits that are set and do not redirect; empty when there is nothing to say. */
export function harmlessText(path: readonly AcsOnPath[]): string[] {
  const blamed = path.filter(({ harmless }) => harmless !== "");
  if (blamed.length === 0) return [];
  const names = blamed.map(({ bdf, harmless }) => `${formatBdf(bdf)} has ${harmless}`).join(", ");
  return [
    `${names}: none of SV, TB, UF, DT redirects peer requests; only RR, CR and EC do. ` +
      "Leave them as they are.",
  ];
}
