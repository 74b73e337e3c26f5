/**
 * A route as a report: what a port would decide for one address now, including the translation of
 * that address, without moving, counting or caching anything.
 */

import { DmaStatus } from "../core/index.ts";
import { FAULT_REASON_NAMES, type Iommu } from "./iommu.hot.ts";
import type { FabricNode } from "./node.ts";
import type { Resolver } from "./resolve.ts";
import {
  DmaDirection,
  dmaStatusName,
  type Hop,
  type Route,
  type RouteReport,
  TargetKind,
} from "./route.ts";

export interface ReportContext {
  readonly resolver: Resolver;
  readonly iommu: Iommu | null;
}

export function reportRoute(
  { resolver, iommu }: ReportContext,
  initiator: FabricNode,
  address: number,
  direction: DmaDirection,
  isTranslated: boolean,
): RouteReport {
  const route = resolver.route(initiator, address, direction, isTranslated);
  if (route.kind !== TargetKind.translate || iommu === null) return toReport(route, address);
  const offset = address & 0xfff;
  const page = iommu.domainOf(initiator).lookUp((address - offset) / 4096, direction);
  if (page < 0) {
    const reason = FAULT_REASON_NAMES[-page];
    return { ...toReport(route, address, reason), ...statusOf(DmaStatus.iommuFault) };
  }
  const onward = resolver.routeFromRootComplex(initiator, address, page + offset, direction);
  // The answer holds for this page at least; the physical range is not the initiator's.
  const base = address - offset;
  return { ...toReport(onward, address), range: { base, limit: base + 4096 } };
}

function statusOf(status: number): { status: number; statusName: string } {
  return { status, statusName: dmaStatusName(status) };
}

function toReport(route: Route, address: number, fault: string | null = null): RouteReport {
  const { story } = route;
  const last = story.hops.at(-1);
  const hops: readonly Hop[] =
    fault === null || last === undefined
      ? story.hops
      : [...story.hops.slice(0, -1), { ...last, decision: "refuses", reason: fault }];
  return {
    initiator: story.initiator,
    direction: story.direction === DmaDirection.read ? "read" : "write",
    address,
    ...statusOf(route.status),
    target: story.target,
    hops,
    completionHops: story.completionHops,
    range: { base: route.base, limit: route.limit },
    viaRootComplex: story.requestViaRoot || story.completionViaRoot,
  };
}
