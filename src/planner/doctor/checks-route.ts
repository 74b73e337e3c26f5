/**
 * Checks of the ways between initiators and memory: is there a permitted one, does ACS make a
 * detour of a direct one, what is proven of the root complex, which gates are closed, which links
 * run slow.
 */

import { formatBdf, hexDigits } from "../../core/index.ts";
import { NONE } from "../../machine/index.ts";
import { MapType } from "../../p2p/index.ts";
import { acsOnPath } from "../acs-path.ts";
import { lostSpeed } from "../bandwidth.ts";
import { complexesOf, explainPair } from "../explain.ts";
import { kindName } from "../interest.ts";
import { iommuOf } from "../iommu.ts";
import { provenOf } from "../knowledge.ts";
import { countRoute, type RouteCounts, routeSummary } from "../route-counts.ts";
import { formatLink } from "../topo.ts";
import { type CheckResult, fail, type NearestPair, ok, type Subject, unknown } from "./subject.ts";

const named = (subject: Subject, at: number): string => {
  const fn = subject.functionAt(at);
  return `${formatBdf(fn.bdf)} (${kindName(fn)})`;
};

/** Both kinds of devices are there. */
export function devices(subject: Subject): CheckResult[] {
  const [id, title] = ["devices", "devices"];
  const { use, initiators, owners } = subject;
  const what = {
    gds: ["NVMe", "GPU"],
    gdr: ["NIC", "GPU"],
    "nvmeof-cmb": ["NIC", "NVMe"],
  } as const;
  if (use === "vfio") {
    const evidence = `${owners.length} of interest`;
    return owners.length > 0 ? [ok(id, title, evidence)] : [noDevice(id, title, "device")];
  }
  const [from, to] = what[use];
  if (initiators.length > 0 && owners.length > 0) {
    return [ok(id, title, `${initiators.length} ${from}, ${owners.length} ${to}`)];
  }
  return [noDevice(id, title, owners.length === 0 ? to : from)];
}

function noDevice(id: string, title: string, missing: string): CheckResult {
  const evidence = `there is no ${missing} in the dump`;
  return fail(id, title, evidence, "Check that the dump is of the whole machine, taken as root.");
}

/** For every memory, its nearest initiator is permitted. */
export function routes(subject: Subject): CheckResult[] {
  const [id, title] = ["route", "a permitted route"];
  const { pairs, use } = subject;
  if (pairs.length === 0 || use === "vfio") return [];
  const counts: RouteCounts = { direct: 0, through: 0, refused: 0 };
  for (const { mapType } of pairs) countRoute(counts, mapType);
  const kind = kindName(subject.functionAt(pairs[0].owner));
  const nearest = kindName(subject.functionAt(pairs[0].initiator));
  const summary = routeSummary(counts);
  const evidence = `${pairs.length} ${kind}, each from its nearest ${nearest}: ${summary}`;
  const [worst] = pairs.filter(({ mapType }) => mapType === MapType.notSupported);
  if (worst === undefined) return [ok(id, title, evidence)];
  const pair = `${named(subject, worst.initiator)} to ${named(subject, worst.owner)}`;
  return [
    fail(
      id,
      title,
      `${evidence}; the first refused: ${pair}`,
      "See why and what fixes it.",
      explainCommand(subject, worst),
    ),
  ];
}

const explainCommand = (subject: Subject, { initiator, owner }: NearestPair): string =>
  `peerlane explain ${formatBdf(subject.bdfOf(initiator))} ` +
  `${formatBdf(subject.bdfOf(owner))} ${subject.given}`;

/**
 * Pairs below one switch that ACS sends up; for VFIO, whether every device can be given away alone.
 */
export function acs(subject: Subject): CheckResult[] {
  const [id, title] = ["acs", "ACS"];
  if (subject.use === "vfio") return isolation(subject);
  const { pairs, index } = subject;
  const below = pairs.filter(({ owner, initiator }) => index.commonOf(owner, initiator) !== NONE);
  if (below.length === 0) return [];
  const redirected = below.filter(({ mapType }) => mapType !== MapType.busAddr);
  if (redirected.length > 0) {
    const [first] = redirected;
    const { remedies } = explainPair(
      subject.machine,
      subject.bdfOf(first.initiator),
      subject.bdfOf(first.owner),
    );
    const [remedy] = remedies;
    const ports = acsOnPath(index, subject.bdfOf(first.initiator), subject.bdfOf(first.owner))
      .filter(({ redirecting }) => redirecting !== "")
      .map(({ bdf, redirecting }) => `${formatBdf(bdf)} ${redirecting}`);
    return [
      fail(
        id,
        title,
        `${redirected.length} of ${below.length} pairs below one switch are redirected ` +
          "to the root " +
          `complex; ${named(subject, first.initiator)} to ${named(subject, first.owner)}: ` +
          `${ports.join(", ")}`,
        remedy?.text ?? "See what helps with `peerlane explain`.",
        remedy?.command ?? explainCommand(subject, first),
      ),
    ];
  }
  const isUnknown = below.some(({ owner, initiator }) =>
    acsOnPath(index, subject.bdfOf(initiator), subject.bdfOf(owner)).some(
      ({ control }) => control === null,
    ),
  );
  if (isUnknown) {
    const evidence = "the dump does not tell ACS of every port on the way";
    return [unknown(id, title, evidence, "Take the dump as root.", "lspci -vvv -xxxx")];
  }
  return [ok(id, title, `no port redirects between ${below.length} pairs below one switch`)];
}

/** Devices whose IOMMU group has others in it must be given away with them. */
function isolation({ machine, owners, functionAt }: Subject): CheckResult[] {
  const [id, title] = ["groups", "IOMMU groups"];
  const isTold = machine.functions.some(({ iommuGroup }) => iommuGroup !== null);
  if (!isTold) {
    const how = "Add lspci -vvv with an IOMMU on, or capture the machine.";
    return [unknown(id, title, "the dump tells no IOMMU groups", how)];
  }
  const shared = owners.flatMap((owner) => {
    const fn = functionAt(owner);
    if (fn.iommuGroup === null) return [];
    const others = machine.functions.filter(
      (other) =>
        other.iommuGroup === fn.iommuGroup &&
        other.bridge === null &&
        // Functions of one card go together anyway.
        Math.floor(other.bdf / 8) !== Math.floor(fn.bdf / 8),
    );
    return others.length === 0 ? [] : [{ fn, others }];
  });
  if (shared.length === 0) return [ok(id, title, "every device is alone in its group")];
  const [{ fn, others }] = shared;
  return [
    fail(
      id,
      title,
      `${formatBdf(fn.bdf)} shares group ${fn.iommuGroup} with ${others
        .slice(0, 4)
        .map((other) => formatBdf(other.bdf))
        .join(", ")}${others.length > 4 ? ", ..." : ""}: they can only be given away together`,
      "Give all of the group to one machine, or use slots below ports with ACS.",
    ),
  ];
}

/** What is known of the root complexes that the pairs pass. */
export function provenRoutes(subject: Subject): CheckResult[] {
  const [id, title] = ["proven", "root complex, as proven"];
  const { pairs, rules, machine } = subject;
  const through = pairs.filter(({ mapType }) => mapType === MapType.thruHostBridge);
  if (through.length === 0) return [];
  for (const { owner, initiator } of through) {
    const verdict = rules.verdict(subject.bdfOf(owner), subject.bdfOf(initiator));
    const complexes = complexesOf(rules, verdict, iommuOf(machine).mode);
    for (const direction of ["write", "read"] as const) {
      const { outcome, fact, text } = provenOf(complexes, direction, true);
      if (outcome === "works") continue;
      const remedy =
        "Verify the data where it arrives, read by its owner; or bring both below one switch.";
      if (outcome === "unknown") return [unknown(id, title, text, remedy)];
      return [fail(id, title, `${direction}s: ${text} (${fact?.source})`, remedy)];
    }
  }
  const pass = through.length === 1 ? "1 pair passes it" : `${through.length} pairs pass it`;
  return [ok(id, title, `${pass}; known to carry both directions`)];
}

const MEMORY_SPACE = 0x2;
const BUS_MASTER = 0x4;

/**
 * Bus Master Enable of initiators and all bridges above, Memory Space Enable of owners and theirs.
 */
export function commandBits(subject: Subject): CheckResult[] {
  const [id, title] = ["command", "Bus Master, Memory Space"];
  const { pairs, index } = subject;
  const needed = new Map<number, number>();
  for (const { owner, initiator } of pairs) {
    for (const [start, bit] of [
      [owner, MEMORY_SPACE],
      [initiator, BUS_MASTER],
    ] as const) {
      for (let at = start; at !== NONE; at = index.parentOf(at)) {
        needed.set(at, (needed.get(at) ?? 0) | bit);
      }
    }
  }
  if (needed.size === 0) return [];
  const known = [...needed].filter(([at]) => subject.functionAt(at).command !== null);
  const shut = known.flatMap(([at, bits]) => {
    const missing = bits & ~(subject.functionAt(at).command ?? 0);
    return missing === 0 ? [] : [{ at, missing }];
  });
  if (shut.length === 0) {
    if (known.length === needed.size) return [ok(id, title, `set at all ${needed.size} functions`)];
    const evidence = "the dump does not tell the command register of every function on the way";
    return [unknown(id, title, evidence, "Add lspci -vvv or -xxxx.")];
  }
  const [{ at, missing }] = shut;
  const names = [
    (missing & BUS_MASTER) === 0 ? "" : "Bus Master Enable",
    (missing & MEMORY_SPACE) === 0 ? "" : "Memory Space Enable",
  ].filter((name) => name !== "");
  const bits = hexDigits(missing, 4);
  return [
    fail(
      id,
      title,
      `${named(subject, at)} has ${names.join(" and ")} ` +
        `off${shut.length > 1 ? `, and ${shut.length - 1} more` : ""}: ` +
        "its requests or its memory are dead",
      "Bind its driver, or set it by hand.",
      `setpci -s ${formatBdf(subject.bdfOf(at))} COMMAND=${bits}:${bits}`,
    ),
  ];
}

/** Links on the way that run below what both ends can do. */
export function links({ pairs, index, machine }: Subject): CheckResult[] {
  const [id, title] = ["links", "link speed and width"];
  const ports = new Set<number>();
  for (const { owner, initiator } of pairs) {
    for (const start of [owner, initiator]) {
      const parent = index.parentOf(start);
      if (parent !== NONE) ports.add(parent);
    }
  }
  const slow = [...ports].flatMap((at) => {
    const { bdf, pcie } = machine.functions[at];
    const now = pcie?.link ?? null;
    const could = now === null ? null : lostSpeed(index, bdf, now);
    return now === null || could === null ? [] : [{ bdf, now, could }];
  });
  if (ports.size === 0) return [];
  if (slow.length === 0) return [ok(id, title, `${ports.size} links run as fast as both ends can`)];
  const [{ bdf, now, could }] = slow;
  return [
    fail(
      id,
      title,
      `${slow.length} of ${ports.size} links are slower than both ends can: below ` +
        `${formatBdf(bdf)} ` +
        `${formatLink(now)}, could be ${formatLink(could)}`,
      "Look again under load (idle devices slow their links down); else reseat the card, " +
        "check the riser.",
      `lspci -vvs ${formatBdf(bdf)} | grep LnkSta`,
    ),
  ];
}
