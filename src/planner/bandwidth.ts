/**
 * How fast a transfer along a route can be: the narrowest link that its payload crosses, by the
 * model of spec/pcie (headers, acknowledgements and flow control taken off), and links that run
 * below what both of their ends can do.
 *
 * Writes carry payload with the requests, reads with the completions, so the two directions are
 * asked apart. Leaves out: other traffic on the same links, and what a root complex adds.
 */

import type { Bdf } from "../core/index.ts";
import type { Hop, RouteReport } from "../fabric/index.ts";
import { type LinkFacts, type MachineIndex, NONE, type PciFunction } from "../machine/index.ts";
import {
  type LinkModel,
  linkModel,
  readPayloadBytesPerSecond,
  writePayloadBytesPerSecond,
} from "../spec/pcie/index.ts";

/** Long transfers: the rate then does not depend on their length. */
const TRANSFER_BYTES = 2 ** 20;
const PAYLOAD_MIN = 128;
const GENERATION_MAX = 6;

/** A link on the way. */
export interface PathLink {
  /** The port above it. */
  readonly upper: Bdf;
  readonly generation: number;
  readonly width: number;
  /** Payload of this direction; null when the dump does not tell the link. */
  readonly bytesPerSecond: number | null;
  /** What both ends could do, where the link runs below it. */
  readonly couldBe: LinkFacts | null;
}

export interface Bandwidth {
  readonly links: readonly PathLink[];
  /** The narrowest; null when the way crosses no link that is known. */
  readonly narrowest: PathLink | null;
  /** Max_Payload_Size and Max_Read_Request_Size it was computed with. */
  readonly maxPayload: number;
  readonly maxReadRequest: number;
}

/** The links that payload crosses, in order. */
export function bandwidthOf(index: MachineIndex, route: RouteReport): Bandwidth {
  const isWrite = route.direction === "write";
  const hops = isWrite ? route.hops : route.completionHops;
  const sender = isWrite ? route.initiator : (route.target?.bdf ?? route.initiator);
  const maxPayload = atLeast(expressOf(index, sender)?.maxPayload, PAYLOAD_MIN);
  const maxReadRequest = atLeast(expressOf(index, route.initiator)?.maxReadRequest, PAYLOAD_MIN);
  const links: PathLink[] = [];
  for (const hop of hops) {
    if (hop.link === null) continue;
    links.push(pathLink(index, hop.link, route.direction, maxPayload, maxReadRequest));
  }
  let narrowest: PathLink | null = null;
  for (const link of links) {
    if (link.bytesPerSecond === null) continue;
    if (narrowest === null || link.bytesPerSecond < (narrowest.bytesPerSecond as number)) {
      narrowest = link;
    }
  }
  return { links, narrowest, maxPayload, maxReadRequest };
}

function expressOf(index: MachineIndex, bdf: Bdf): PciFunction["pcie"] {
  return index.functionAt(bdf)?.pcie ?? null;
}

const atLeast = (value: number | undefined, least: number): number => Math.max(least, value ?? 0);

function pathLink(
  index: MachineIndex,
  link: NonNullable<Hop["link"]>,
  direction: "write" | "read",
  maxPayload: number,
  maxReadRequest: number,
): PathLink {
  const { upper, generation, width } = link;
  const isKnown = generation >= 1 && generation <= GENERATION_MAX && width >= 1;
  const model = isKnown ? linkModel(generation, width, { maxPayload, maxReadRequest }) : null;
  return {
    upper,
    generation,
    width,
    bytesPerSecond: model === null ? null : payloadRate(model, direction),
    couldBe: isKnown ? lostSpeed(index, upper, { generation, width }) : null,
  };
}

const payloadRate = (model: LinkModel, direction: "write" | "read"): number =>
  direction === "write"
    ? writePayloadBytesPerSecond(model, TRANSFER_BYTES)
    : readPayloadBytesPerSecond(model, TRANSFER_BYTES);

/** What both ends of the link below a port can do, when that is more than the link does. */
export function lostSpeed(index: MachineIndex, port: Bdf, now: LinkFacts): LinkFacts | null {
  const at = index.indexOf(port);
  const [below] = at === NONE ? [] : index.childrenOf(at);
  const upper = at === NONE ? null : (index.functions[at].pcie?.linkCapability ?? null);
  const lower = below === undefined ? null : (index.functions[below].pcie?.linkCapability ?? null);
  if (upper === null || lower === null) return null;
  const generation = Math.min(upper.generation, lower.generation);
  const width = Math.min(upper.width, lower.width);
  return generation > now.generation || width > now.width ? { generation, width } : null;
}

/** `12.99 GB/s`. */
export const formatRate = (bytesPerSecond: number): string =>
  `${(bytesPerSecond / 1e9).toFixed(2)} GB/s`;
