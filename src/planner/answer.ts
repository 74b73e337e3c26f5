/**
 * What the three questions come to for one pair: usable or not, how sure, and one sentence that
 * says why. The questions themselves stay apart; see explain.ts.
 */

import { formatBdf } from "../core/index.ts";
import type { RouteReport } from "../fabric/index.ts";
import { isUnknown, type PciFunction } from "../machine/index.ts";
import { type TlpVerdict, textOfReason, type Verdict } from "../p2p/index.ts";
import type { Bandwidth } from "./bandwidth.ts";
import type { Outcome, Proven } from "./knowledge.ts";
import type { AddressForm, Direction, SharedBar } from "./probe.ts";

/** One direction: permitted, routable, proven, and how fast it can be. */
export interface DirectionAnswer {
  readonly direction: Direction;
  readonly permitted: TlpVerdict;
  /** Null where there is no address to send a request to. */
  readonly route: RouteReport | null;
  /** Requests or completions pass the root complex. */
  readonly reachesRoot: boolean;
  readonly proven: Proven;
  readonly bandwidth: Bandwidth | null;
}

/** The three questions answered at once, for whoever wants one word. */
export interface Answer {
  /** The kernel's rules allow it. */
  readonly permitted: boolean;
  /** False where something that the dump does not tell would change that. */
  readonly certain: boolean;
  /** Requests and their completions arrive at the memory; null where no address is known. */
  readonly routable: boolean | null;
  /** The worst of the directions. */
  readonly proven: Outcome;
  /** Permitted, not known not to arrive, not known to fail: exit status 0 of the command. */
  readonly usable: boolean;
  /** One sentence. */
  readonly text: string;
}

const WORST_FIRST: readonly Outcome[] = ["corrupts", "drops", "fails", "unknown", "works"];

/** True when what is routed ends in the memory that was meant. */
export const arrives = (route: RouteReport): boolean =>
  route.status === 0 && route.target?.kind === "bar";

/** What an answer is made of. */
export interface Findings {
  /** The worst of the directions. */
  readonly verdict: Verdict;
  readonly directions: readonly DirectionAnswer[];
  /** Nothing that the dump hides would change the verdict. */
  readonly certain: boolean;
  /** Why there is no memory to reach; null where there is, or may be. */
  readonly lack: string | null;
  /** The address that a request must carry. */
  readonly form: AddressForm;
}

export function answerOf(findings: Findings): Answer {
  const { verdict, directions, certain, lack } = findings;
  const permitted = verdict.route !== "none";
  const routes = directions.map(({ route }) => route);
  const lost = directions.find(({ route }) => route !== null && !arrives(route)) ?? null;
  const isOut = lost !== null || lack !== null;
  const routable = isOut ? false : routes.includes(null) ? null : true;
  const outcomes = directions.map(({ proven }) => proven.outcome);
  const proven = WORST_FIRST.find((outcome) => outcomes.includes(outcome)) ?? "unknown";
  const isKnownBad = proven !== "works" && proven !== "unknown";
  const usable = permitted && routable !== false && !isKnownBad;
  const facts = { permitted, certain, routable, proven, usable };
  return { ...facts, text: answerText(facts, lost, findings) };
}

/** What is known to happen, of `writes`, `reads` or both. */
const KNOWN_BAD: Readonly<Record<Outcome, string>> = {
  corrupts: "report success while the data is WRONG",
  drops: "vanish and nobody is told",
  fails: "end in an error",
  unknown: "",
  works: "",
};

function answerText(
  { permitted, routable, proven, usable }: Omit<Answer, "text">,
  lost: DirectionAnswer | null,
  { verdict, directions, lack, form }: Findings,
): string {
  const bad = directions.filter((one) => one.proven.outcome === proven);
  const known = KNOWN_BAD[proven];
  const names = bad.map((one) => `${one.direction}s`).join(" and ");
  const fate = `on ${bad[0]?.proven.fact?.title ?? "this machine"} ${names} ${known}`;
  if (!permitted) {
    const refused = `no: the kernel refuses this pair: ${reasonText(verdict)}`;
    return known === "" ? refused : `${refused}; and ${fate}`;
  }
  if (lack !== null) return `no: the kernel permits it, but ${lack}`;
  if (lost?.route != null) {
    const end = endOf(lost.route);
    return `no: the kernel permits it, but a ${lost.direction} does not arrive (${end})`;
  }
  if (!usable) return `no: the kernel permits it, but ${fate}`;
  if (routable === null) return "permitted; whether it arrives cannot be told from this dump";
  const reachesRoot = directions.some((one) => one.reachesRoot);
  const way = `${reachesRoot ? "through" : "below"} the root complex ${WITH[form]}`;
  if (proven === "works") return `yes, ${way}: permitted, routable, proven`;
  return (
    `permitted, and routed as far as the root complex ${WITH[form]}, of which nothing is known: ` +
    "check the data where it arrives"
  );
}

const WITH: Readonly<Record<AddressForm, string>> = {
  bus: "by bus address",
  physical: "by physical address",
  iova: "by IOVA (the IOMMU faults any other address)",
};

/** Why there is no memory to reach, where the dump tells so; null where there is, or may be. */
export function lackOf(owner: PciFunction, bar: SharedBar | null): string | null {
  if (bar !== null || isUnknown(owner, "bars")) return null;
  const hasMemory = owner.bars.some(({ kind, index }) => kind !== "io" && index < 6);
  const what = hasMemory ? "its memory BARs have no address" : "it has no memory BAR";
  return `there is no memory to reach at ${formatBdf(owner.bdf)}: ${what}`;
}

/** The rule's reason in words, without what explains it. */
export const reasonText = ({ reason, text }: Verdict): string => textOfReason(reason) ?? text;

/** Where a request ended that did not arrive: `unsupported-request at 0000:02:00.0`. */
function endOf({ status, statusName, target, hops }: RouteReport): string {
  if (status === 0) return `it lands in ${target?.kind ?? "nothing"}`;
  const at = hops.at(-1)?.bdf ?? null;
  return at === null ? statusName : `${statusName} at ${formatBdf(at)}`;
}
