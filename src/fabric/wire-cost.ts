/**
 * What transfers of one route put on its links: TLP headers around the payload, from the throughput
 * model of the specification room. One place for traffic counts and for timing, so that they agree.
 */

import {
  completionOverheadBytes,
  type LinkModel,
  linkModel,
  requestOverheadBytes,
} from "../spec/pcie/index.ts";
import type { Link } from "./link.ts";
import { DmaDirection, type RouteStory } from "./route.ts";

/** Choices of the model that a machine's registers do not tell. */
export interface WireOptions {
  /** See `LinkModel.dllp`: `published` reproduces the paper. */
  readonly dllp: LinkModel["dllp"];
  readonly ecrc: boolean;
}

export const PUBLISHED_WIRE: WireOptions = { dllp: "published", ecrc: false };

/** Counts of a batch of transfers of one route. */
export interface TransferCounts {
  readonly bytes: number;
  /** TLPs with data: writes or completions. */
  readonly tlps: number;
  /** Read requests. */
  readonly requests: number;
}

/** A link's model with the payload size in force on it. */
export function modelOf(link: Link, maxPayload: number, options: WireOptions): LinkModel {
  return linkModel(link.facts.generation, link.facts.width, { maxPayload, ...options });
}

/** Wire bytes by directed link, in the order requests and then completions take them. */
export function wireCosts(
  story: RouteStory,
  counts: TransferCounts,
  links: readonly Link[],
  options: WireOptions,
): { links: number[]; bytes: number[] } {
  const taken: number[] = [];
  const bytes: number[] = [];
  const add = (directed: number, wire: (model: LinkModel) => number): void => {
    const link = links[directed >> 1];
    const base = modelOf(link, story.maxPayload, options);
    taken.push(directed);
    bytes.push(wire({ ...base, addressBits: story.addressBits }));
  };
  if (story.direction === DmaDirection.write) {
    for (const directed of story.requestLinks) {
      add(directed, (model) => counts.bytes + counts.tlps * requestOverheadBytes(model));
    }
    return { links: taken, bytes };
  }
  for (const directed of story.requestLinks) {
    add(directed, (model) => counts.requests * requestOverheadBytes(model));
  }
  for (const directed of story.completionLinks) {
    add(directed, (model) => counts.bytes + counts.tlps * completionOverheadBytes(model));
  }
  return { links: taken, bytes };
}
