/**
 * What a run of a scenario answers, as plain data: the command line renders it, `--json` prints it,
 * tests compare it. Bytes and counts are numbers; functions are BDF text.
 *
 * `permitted` (the kernel's rules) and `routable` (what the fabric did with a request) stand side
 * by side and are never merged into one word.
 */

import type { Tree } from "../core/index.ts";
import type { GpuRunName } from "./gpu/schema.ts";
import type { DescriptionName } from "./schema.ts";

/** Raised when a field is renamed or changes its meaning. */
export const REPORT_VERSION = 1;

export interface DeviceReport {
  readonly bdf: string;
  readonly kind: string;
  readonly name: string;
  /** What stands behind the function in the fabric. */
  readonly model: string;
}

export interface MachineReport {
  readonly name: string;
  readonly source: string;
  readonly functions: number;
  readonly hostBridges: number;
  readonly cpu: string | null;
  /** Edits made before the run, each a sentence. */
  readonly edits: readonly string[];
  readonly warnings: readonly string[];
}

/** What the rules say of one initiator and the provider. */
export interface PermittedReport {
  readonly provider: string;
  readonly client: string;
  readonly ruleSet: string;
  readonly mapType: string;
  readonly distance: number;
  readonly reason: string;
  readonly text: string;
  readonly evidence: readonly string[];
  readonly remedies: readonly string[];
}

export interface HopReport {
  /** BDF, or `root complex`, `IOMMU`, `host memory`. */
  readonly at: string;
  readonly role: string;
  readonly decision: string;
  readonly reason: string;
  /** `gen5 x16`; null where it does not leave by a link. */
  readonly link: string | null;
}

/** What the fabric does with one initiator's requests to where payload is staged. */
export interface RouteLegReport {
  readonly initiator: string;
  /** `nic` or `ssd`. */
  readonly role: string;
  readonly direction: "read" | "write";
  readonly address: string;
  readonly outcome: string;
  readonly viaRootComplex: boolean;
  readonly hops: readonly HopReport[];
}

export interface LinkReport {
  /** The port above the link and what is below it. */
  readonly link: string;
  readonly generation: number;
  readonly width: number;
  /** Payload bytes away from and towards the root. */
  readonly downBytes: number;
  readonly upBytes: number;
}

/** Bytes that crossed into (writes) and out of (reads) host memory. */
export interface HostMemoryReport {
  readonly payloadIn: number;
  readonly payloadOut: number;
  /** Queues, capsules, lists, interrupts. */
  readonly controlIn: number;
  readonly controlOut: number;
}

export interface DigestReport {
  /** SHA-256 of what the remote host sent, in the order of blocks. */
  readonly sent: string;
  /** The same blocks read from the SSD's media, not through any driver. */
  readonly onSsd: string;
  /** What the remote host read back. */
  readonly readBack: string;
  readonly equal: boolean;
}

/** What the GPU says of its own memory, in GPU scenarios. */
export interface GpuCheckReport {
  readonly gpu: string;
  readonly bytes: number;
  /** CRC32C of what was sent, by the CPU. */
  readonly sent: string;
  /** CRC32C of VRAM, by the GPU. */
  readonly computed: string;
  /** Sum of the 32-bit words of VRAM modulo 2^64, by the GPU. */
  readonly sum64: string;
  /** VRAM holds what was sent, byte for byte, as its owner has it. */
  readonly vramEqual: boolean;
  readonly equal: boolean;
}

export interface IoReport {
  readonly writes: number;
  readonly reads: number;
  readonly bytesWritten: number;
  readonly bytesRead: number;
  readonly errors: number;
  /** NVMe status of the first failed I/O; null when none failed. */
  readonly firstError: string | null;
}

/** CPU time of this process per I/O of one size, µs: remote host, wire, target, drivers, models. */
export interface CpuGroupReport {
  readonly sizeBytes: number;
  readonly count: number;
  /** Null when nothing was written. */
  readonly writeUs: number | null;
  /** Null when nothing was read back. */
  readonly readUs: number | null;
}

export interface CpuReport {
  readonly groups: readonly CpuGroupReport[];
  /** CPU time of the whole workload, µs, digests excluded. */
  readonly totalUs: number;
  readonly wallMs: number;
}

export type RunOutcome = "completed" | "refused" | "fell-back";

export interface RunReport {
  readonly description: DescriptionName | GpuRunName;
  readonly outcome: RunOutcome;
  /** One sentence: where payload went, or why not. */
  readonly summary: string;
  /** BDF and BAR of the provider; `host memory` when there is none. */
  readonly stagedIn: string;
  readonly permitted: readonly PermittedReport[];
  readonly routes: readonly RouteLegReport[];
  readonly links: readonly LinkReport[];
  readonly hostMemory: HostMemoryReport;
  readonly digest: DigestReport | null;
  /** Null where no GPU takes part as one. */
  readonly gpu: GpuCheckReport | null;
  readonly io: IoReport;
  readonly cpu: CpuReport;
  /** The orchestrator's counters of every choice, those of the untimed first pass included. */
  readonly counters: Tree;
}

export interface ScenarioReport {
  readonly name: string;
  readonly about: string;
  readonly seed: number;
  readonly machine: MachineReport;
  readonly devices: readonly DeviceReport[];
  readonly runs: readonly RunReport[];
  /** True when every run moved its data: no I/O refused or failed, all digests equal. */
  readonly ok: boolean;
}

export interface Report {
  readonly version: number;
  readonly peerlane: string;
  readonly scenarios: readonly ScenarioReport[];
}
