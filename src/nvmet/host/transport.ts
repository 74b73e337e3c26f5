/**
 * The seam between the NVMe-oF host and its transports: a connection that carries capsules one way
 * and responses the other, and memory that the target may be told to use.
 */

import type { IoMemory } from "../../memory/index.ts";

/** Memory that a target can reach: what keyed SGLs name. */
export interface HostBuffer {
  readonly memory: IoMemory;
  /** Of the registered range in the memory. */
  readonly offset: number;
  readonly length: number;
  /** What stands for the range's first byte in an SGL. */
  readonly address: number;
  readonly key: number;
  /** False once its key was invalidated. */
  readonly valid: boolean;
  release(): Promise<void>;
}

/** Takes responses: 16 bytes at `at`, valid during the call. */
export interface ResponseSink {
  response(view: DataView, at: number): void;
}

/** One queue's connection. */
export interface HostChannel {
  /** Command capsules: that of tag `t` starts at `t * capsuleStride`. */
  readonly capsules: Uint8Array;
  readonly capsuleStride: number;
  /** Data bytes that a capsule holds behind its command. */
  readonly inCapsuleBytes: number;
  /** Why it ended; null while it is up. */
  readonly ended: string | null;
  /** Queues the first `bytes` bytes of a capsule. False: the connection takes no more now. */
  send(tag: number, bytes: number): boolean;
  kick(): void;
  /** Hands responses that arrived to `sink`. Returns how many things it did. */
  poll(sink: ResponseSink): number;
  close(): Promise<void>;
}

export interface HostQueueOptions {
  readonly qid: number;
  /** Entries of the submission queue. */
  readonly depth: number;
  /** For I/O queues. */
  readonly cntlid: number;
  readonly inCapsuleBytes: number;
}

/** A way to a target. */
export interface HostTransport {
  /** Names for messages: `rdma 10.0.0.1:4420`. */
  readonly name: string;
  register(memory: IoMemory, offset: number, length: number): Promise<HostBuffer>;
  /** Throws when the target refuses; `details.status` where it says why. */
  connect(options: HostQueueOptions): Promise<HostChannel>;
  /** Memory for admin data, that the CPU reads and the target writes. */
  allocate(sizeBytes: number): Promise<AdminBuffer>;
  /** Makes progress that belongs to no queue (connection manager). */
  poll(): number;
  /** Gives up connections that are not there yet: their `connect` is rejected. */
  abandon?(): void;
}

export interface AdminBuffer {
  readonly buffer: HostBuffer;
  readonly bytes: Uint8Array;
  free(): Promise<void>;
}
