/**
 * The buffer that a connection has for itself: room for one largest transfer, mapped for the disks
 * of its namespaces. When it is used is share.hot.ts' part.
 *
 * Over TCP alone: there a peer that stops can hold what was taken for it. A NIC that gets no answer
 * ends its queue pair by itself.
 */

import type { BackingMachine, HostRegion } from "../backing/interface.ts";
import { PAGE_SIZE } from "../core/index.ts";
import { cpuMemory, type HostMemory } from "../memory/index.ts";
import { DiskViews } from "./disk-views.ts";
import type { Namespace } from "./namespace.ts";
import type { MemoryShare } from "./share.hot.ts";

export class QueueReserve {
  private readonly machine: BackingMachine;
  private readonly region: HostRegion;
  private readonly own: HostMemory;
  private readonly share: MemoryShare;
  private readonly disks: DiskViews;

  /** Throws `no-host-memory`. */
  constructor(machine: BackingMachine, bytes: number, share: MemoryShare) {
    this.machine = machine;
    this.region = machine.allocateHost(bytes, PAGE_SIZE, "payload");
    this.own = cpuMemory(this.region);
    this.disks = new DiskViews(this.region);
    this.share = share;
    share.reserveMemory = this.own;
    share.reserveBytes = bytes;
  }

  /** Lets the namespace's disks reach it. */
  map(namespace: Namespace): void {
    this.share.reserveDisks[namespace.nsid] = this.disks.of(namespace);
  }

  /** Gives the memory back. No command may use it any more. */
  close(): void {
    this.share.reserveBytes = 0;
    this.disks.close();
    this.own.close();
    this.machine.freeHost(this.region);
  }
}
