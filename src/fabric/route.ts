/**
 * A decided route: where requests of one initiator to one range of addresses end, over which links,
 * and what each port on the way decided and why. Immutable but for its counters.
 *
 * Invariants: a route holds for every address in [base, limit) and one direction, as long as the
 * fabric's epoch has not moved; `hops` is never empty. Ports read only the plain fields in front;
 * `story` is for people, traffic reports and timing.
 */

import {
  type Bdf,
  DMA_STATUS_NAMES,
  DmaStatus,
  formatBdf,
  hex,
  type SparseMemory,
} from "../core/index.ts";
import type { RegisterHandler } from "./device.ts";
import type { NodeRole } from "./link.ts";

/** What a request does at its end. */
export const TargetKind = {
  /** It fails with the route's status. */
  none: 0,
  /** Sparse memory behind a BAR. */
  memory: 1,
  /** Host memory: one array. */
  host: 2,
  registers: 3,
  /** Part of a BAR with nothing behind it: reads zeros, swallows writes. */
  hole: 4,
  /** A message-signalled interrupt. */
  interrupt: 5,
  /** The root complex, behind an IOMMU: the address is translated per page, then routed again. */
  translate: 6,
} as const;
export type TargetKind = (typeof TargetKind)[keyof typeof TargetKind];

export const DmaDirection = { read: 0, write: 1 } as const;
export type DmaDirection = (typeof DmaDirection)[keyof typeof DmaDirection];

/** What a port, the root complex or the target did with the request. */
export type HopDecision =
  | "issues"
  | "forwards-up"
  | "forwards-down"
  | "peer"
  | "redirects"
  | "refuses"
  | "translates"
  | "decodes"
  | "drops"
  | "delivers";

export interface HopLink {
  readonly index: number;
  /** The downstream port above the link, which names it. */
  readonly upper: Bdf;
  readonly towardsRoot: boolean;
  readonly generation: number;
  readonly width: number;
}

export interface Hop {
  /** Null for the root complex, the IOMMU and host memory. */
  readonly bdf: Bdf | null;
  readonly role: NodeRole | "root-complex" | "iommu" | "host-memory" | "interrupt-controller";
  readonly decision: HopDecision;
  /** With the register that decided: `ACS RR set: peer requests go up`. */
  readonly reason: string;
  /** The address that the request carries when it leaves. */
  readonly address: number;
  /** The link it leaves by; null where there is none (inside a switch, at the end). */
  readonly link: HopLink | null;
}

/** The end of a route, for people. */
export interface RouteTarget {
  readonly kind: "bar" | "host-memory" | "interrupt";
  readonly bdf: Bdf | null;
  readonly bar: number | null;
  /** Offset in the BAR, or physical address. */
  readonly offset: number;
}

/** A route as data, for reports. `range` is where the same answer holds, initiator's addresses. */
export interface RouteReport {
  readonly initiator: Bdf;
  readonly direction: "read" | "write";
  readonly address: number;
  readonly status: number;
  readonly statusName: string;
  readonly target: RouteTarget | null;
  readonly hops: readonly Hop[];
  /** How the data of a read comes back; empty for writes and for reads that fail on the way. */
  readonly completionHops: readonly Hop[];
  readonly range: { readonly base: number; readonly limit: number };
  /** True when the request reached the root complex. */
  readonly viaRootComplex: boolean;
}

/** What routes carry for reports and timing. */
export interface RouteStory {
  readonly initiator: Bdf;
  readonly direction: DmaDirection;
  readonly hops: readonly Hop[];
  readonly completionHops: readonly Hop[];
  readonly target: RouteTarget | null;
  /** Requests, completions go through the root complex. */
  readonly requestViaRoot: boolean;
  readonly completionViaRoot: boolean;
  /** Width of the address in the requests: below 4 GiB the header is 4 bytes shorter. */
  readonly addressBits: 32 | 64;
  /** Directed links that requests, and a read's completions, take. */
  readonly requestLinks: readonly number[];
  readonly completionLinks: readonly number[];
  /** Payload of one TLP of a write or a completion; of one read request. Bytes. */
  readonly maxPayload: number;
  readonly maxReadRequest: number;
  /** First byte and size of the host allocation hit; null for device memory. */
  readonly hostRange: HostRange | null;
}

export interface HostRange {
  readonly base: number;
  readonly sizeBytes: number;
  /** What the owner said that it is for. */
  readonly purpose: string;
}

/** What {@link Route} has in front of its story. */
export interface RouteEnd {
  readonly kind: TargetKind;
  readonly status: number;
  readonly memory: SparseMemory | null;
  readonly bytes: Uint8Array;
  readonly registers: RegisterHandler | null;
  /** Address minus this is the offset in `memory`, `bytes` or `registers`. */
  readonly delta: number;
}

export const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Indices of {@link Route.counts}. */
export const RouteCount = { bytes: 0, transfers: 1, tlps: 2, requests: 3 } as const;

export class Route {
  readonly base: number;
  /** One past the last address. */
  readonly limit: number;
  readonly kind: TargetKind;
  readonly status: number;
  readonly memory: SparseMemory | null;
  readonly bytes: Uint8Array;
  readonly registers: RegisterHandler | null;
  readonly delta: number;
  /** The fabric's epoch when it was decided. */
  readonly epoch: number;
  /** Payload of one TLP: writes and completions at MPS, read requests at MRRS. */
  readonly tlpBytes: number;
  readonly requestBytes: number;
  readonly counts = new Float64Array(4);
  readonly story: RouteStory;

  constructor(base: number, limit: number, end: RouteEnd, epoch: number, story: RouteStory) {
    this.base = base;
    this.limit = limit;
    this.kind = end.kind;
    this.status = end.status;
    this.memory = end.memory;
    this.bytes = end.bytes;
    this.registers = end.registers;
    this.delta = end.delta;
    this.epoch = epoch;
    this.tlpBytes = story.maxPayload;
    this.requestBytes = story.maxReadRequest;
    this.story = story;
  }
}

/** One line per hop, for error texts and logs. */
export function formatRoute(report: RouteReport): string {
  const head =
    `${formatBdf(report.initiator)} ${report.direction}s ${hex(report.address)}: ` +
    report.statusName;
  const lines = report.hops.map(({ bdf, role, decision, reason, address, link }) => {
    const who = bdf === null ? role : `${formatBdf(bdf)} ${role}`;
    const by = link === null ? "" : ` via gen${link.generation} x${link.width}`;
    return `  ${who} ${decision} ${hex(address)}${by}: ${reason}`;
  });
  return [head, ...lines].join("\n");
}

/** `status` as text; `DmaStatus` numbers. */
export const dmaStatusName = (status: number): string =>
  DMA_STATUS_NAMES[status] ?? `status ${status}`;

/** A failing end. */
export function failedEnd(status: number): RouteEnd {
  return {
    kind: TargetKind.none,
    status,
    memory: null,
    bytes: NO_BYTES,
    registers: null,
    delta: 0,
  };
}

/** An end without anything behind it that still succeeds: holes, interrupts, translation. */
export function plainEnd(kind: TargetKind): RouteEnd {
  return {
    kind,
    status: DmaStatus.ok,
    memory: null,
    bytes: NO_BYTES,
    registers: null,
    delta: 0,
  };
}
