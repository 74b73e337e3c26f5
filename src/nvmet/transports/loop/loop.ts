/**
 * The loop transport: host and target in one process. Capsules are copied from one ring to another;
 * data is not moved at all: the target's disks work on the host's own memory, under the keys that
 * the host registered it with.
 *
 * Leaves out: in-capsule data (there is nothing to save), invalidation of keys.
 */

import type { BackingMachine } from "../../../backing/interface.ts";
import { NVMET_QUEUE_DEPTH_MAX, PeerlaneError, type Tree } from "../../../core/index.ts";
import type { DmaDevice } from "../../../dma/index.ts";
import { type IoMemory, mapHostMemory } from "../../../memory/index.ts";
import type {
  AdminBuffer,
  HostBuffer,
  HostChannel,
  HostQueueOptions,
  HostTransport,
} from "../../host/transport.ts";
import { plainRequest } from "../../request.hot.ts";
import type { Target } from "../../target.ts";
import { LoopHostChannel, LoopKeys, LoopLink, LoopTargetChannel } from "./loop.hot.ts";

const CAPSULE_BYTES = 64;

/** Memory that the CPU reaches, for admin data. */
export interface LoopMemory {
  readonly memory: IoMemory;
  readonly bytes: Uint8Array;
  free(): void;
}

export interface LoopOptions {
  readonly target: Target;
  readonly portId: number;
  /** For admin data. See {@link loopMemory}. */
  readonly allocate: (sizeBytes: number) => LoopMemory;
}

/** Host memory of a machine, mapped for `devices`. */
export function loopMemory(
  machine: BackingMachine,
  devices: readonly DmaDevice[],
): (sizeBytes: number) => LoopMemory {
  return (sizeBytes) => {
    const region = machine.allocateHost(sizeBytes);
    const memory = mapHostMemory(region, devices);
    const free = (): void => {
      memory.close();
      machine.freeHost(region);
    };
    return { memory, bytes: region.bytes, free };
  };
}

/** A host's way to a target in the same process. */
export class LoopTransport implements HostTransport {
  readonly name: string;
  private readonly options: LoopOptions;
  private readonly keys = new LoopKeys();

  constructor(options: LoopOptions) {
    this.options = options;
    this.name = `loop to port ${options.portId}`;
  }

  async register(memory: IoMemory, offset: number, length: number): Promise<HostBuffer> {
    const key = this.keys.add(memory);
    const keys = this.keys;
    return {
      memory,
      offset,
      length,
      address: offset,
      key,
      get valid() {
        return keys.find(key) !== null;
      },
      release: async () => keys.remove(key),
    };
  }

  async connect(options: HostQueueOptions): Promise<HostChannel> {
    const { depth } = options;
    const { target, portId } = this.options;
    if (depth > NVMET_QUEUE_DEPTH_MAX) {
      throw new PeerlaneError("queue-too-deep", `a queue of ${depth} entries is too deep`, {
        remedy: `ask for at most ${NVMET_QUEUE_DEPTH_MAX}`,
      });
    }
    const link = new LoopLink(depth);
    const requests = Array.from({ length: depth }, (_, tag) => plainRequest(tag, CAPSULE_BYTES));
    const channel = new LoopTargetChannel(link, requests);
    const origin = {
      portId,
      nic: null,
      capsules: null,
      inCapsuleBytes: 0,
      depthMax: depth,
      ioDepthMax: NVMET_QUEUE_DEPTH_MAX,
      qid: options.qid,
      peer: "loop",
    };
    channel.queue = target.addQueue(channel, origin, requests, this.keys);
    channel.onLost = (queue, reason) => target.dropQueue(queue, reason);
    return new LoopHostChannel(link);
  }

  async allocate(sizeBytes: number): Promise<AdminBuffer> {
    const { memory, bytes, free } = this.options.allocate(sizeBytes);
    const buffer = await this.register(memory, 0, sizeBytes);
    return {
      buffer,
      bytes,
      free: async () => {
        await buffer.release();
        free();
      },
    };
  }

  poll(): number {
    return 0;
  }

  inspect(): Tree {
    return { name: this.name, keys: this.keys.count };
  }
}
