/**
 * The target's contract over RDMA: the whole stack of target-rig.ts, with a block queue in between
 * whose completions can be held back.
 */

import type { Bio, BlockQueue, QueueLimits } from "../src/block/index.ts";
import type { Tree } from "../src/core/index.ts";
import type { TransportHarness } from "./nvmet-harness.ts";
import { type RigOptions, readDisk, type TargetRig, targetRig } from "./target-rig.ts";

/** Passes everything on; while stalled it reaps nothing. */
export class StallQueue implements BlockQueue {
  isStalled = false;
  private readonly inner: BlockQueue;

  constructor(inner: BlockQueue) {
    this.inner = inner;
  }

  get name(): string {
    return this.inner.name;
  }
  get limits(): QueueLimits {
    return this.inner.limits;
  }
  get features(): number {
    return this.inner.features;
  }
  get initiator(): number {
    return this.inner.initiator;
  }
  get capacityBytes(): number {
    return this.inner.capacityBytes;
  }
  submit(bio: Bio): void {
    this.inner.submit(bio);
  }
  kick(): void {
    this.inner.kick();
  }
  poll(): number {
    if (!this.isStalled) return this.inner.poll();
    this.inner.kick();
    return 0;
  }
  inspect(): Tree {
    return this.inner.inspect();
  }
}

export interface RdmaHarness extends TransportHarness {
  readonly rig: TargetRig;
}

export async function rdmaHarness(options: RigOptions = {}): Promise<RdmaHarness> {
  let stall: StallQueue | null = null;
  const rig = await targetRig({
    ...options,
    wrapQueue: (queue) => {
      stall = new StallQueue(queue);
      return stall;
    },
  });
  const { assembly, reactor, subsystem, namespace } = rig;
  return {
    rig,
    name: "rdma",
    target: assembly.target,
    subsystem,
    namespace,
    port: rig.transport.port,
    reactor,
    isDirect: false,
    host: (hostOptions) => rig.host(hostOptions),
    data: (host, sizeBytes) => rig.data(host, sizeBytes),
    disk: (offset, length) => readDisk(rig, offset, length),
    stall(on) {
      (stall as unknown as StallQueue).isStalled = on;
      // Its own poll reaps as well.
      if (on) reactor.remove(rig.disk);
      else reactor.add(rig.disk);
    },
    advance: (ns) => rig.advance(ns),
    addNamespace: (nsid) =>
      subsystem.addNamespace({
        nsid,
        queue: namespace.queue,
        initiators: namespace.initiators,
        p2pmem: namespace.p2pmem,
      }),
  };
}
