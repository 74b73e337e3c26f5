/**
 * A route drawn from top to bottom: every port, what it decided and by which register, every link
 * with its speed and what payload it carries.
 */

import { alignWithin, formatBdf, type Paint } from "../core/index.ts";
import type { Hop, RouteReport } from "../fabric/index.ts";
import type { MachineIndex } from "../machine/index.ts";
import { type Bandwidth, formatRate, type PathLink } from "./bandwidth.ts";
import { kindName } from "./interest.ts";
import type { Page } from "./page.ts";
import { formatLink } from "./topo.ts";

const ROLE_TEXT: Readonly<Record<string, string>> = {
  "switch-upstream": "switch up",
  "switch-downstream": "switch down",
  "root-port": "root port",
  "root-complex": "root complex",
  "host-memory": "host memory",
  "interrupt-controller": "interrupt controller",
  iommu: "IOMMU",
  bridge: "PCI bridge",
};

/**
 * The lines of one route, two columns narrower than the page; `bandwidth` where its links carry the
 * payload.
 */
export function pathLines(
  index: MachineIndex,
  hops: readonly Hop[],
  bandwidth: Bandwidth | null,
  paint: Page,
): string[] {
  const rows: string[][] = [];
  hops.forEach((hop, i) => {
    if (hops[i - 1]?.bdf !== hop.bdf || hop.bdf === null) rows.push(nodeRow(index, hop, paint));
    else rows.push(["", "", decisionText(hop, paint)]);
    if (hop.link === null) return;
    const link = bandwidth?.links.find(({ upper }) => upper === hop.link?.upper) ?? null;
    const isNarrowest = link !== null && link === bandwidth?.narrowest;
    rows.push([paint.dim("│"), linkText(hop, paint), rateText(link, isNarrowest, paint)]);
  });
  return alignWithin(rows, paint.columns - 2);
}

function nodeRow(index: MachineIndex, hop: Hop, paint: Paint): string[] {
  const role = ROLE_TEXT[hop.role];
  if (hop.bdf === null) return [paint.bold("●"), role ?? hop.role, decisionText(hop, paint)];
  const fn = index.functionAt(hop.bdf);
  const what = role ?? (fn === null ? hop.role : kindName(fn));
  return [paint.name(formatBdf(hop.bdf)), what, decisionText(hop, paint)];
}

function decisionText({ decision, reason }: Hop, paint: Paint): string {
  const word = decision.replace("-", " ");
  const isBad = decision === "refuses" || decision === "drops";
  const isDetour = decision === "redirects";
  const painted = isBad ? paint.bad(word) : isDetour ? paint.warn(word) : word;
  return `${painted}: ${reason}`;
}

const linkText = ({ link }: Hop, paint: Paint): string =>
  link === null ? "" : paint.dim(formatLink(link));

function rateText(link: PathLink | null, isNarrowest: boolean, paint: Paint): string {
  if (link === null || link.bytesPerSecond === null) return "";
  const mark = isNarrowest ? paint.bold("  narrowest") : "";
  const lost =
    link.couldBe === null ? "" : paint.warn(`  both ends can do ${formatLink(link.couldBe)}`);
  return `${paint.dim(formatRate(link.bytesPerSecond))}${mark}${lost}`;
}

/** True when a read's data comes back by the ports that its request passed. */
export function comesBackTheSameWay({ hops, completionHops }: RouteReport): boolean {
  const links = (list: readonly Hop[]): string =>
    list
      .filter(({ link }) => link !== null)
      .map(({ link }) => link?.upper)
      .sort()
      .join();
  return links(hops) === links(completionHops);
}

/** True when two routes pass the same ports by the same decisions. */
export const isSameWay = (a: RouteReport, b: RouteReport): boolean =>
  a.hops.length === b.hops.length &&
  a.hops.every((hop, i) => hop.bdf === b.hops[i].bdf && hop.decision === b.hops[i].decision);
