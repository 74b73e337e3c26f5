/**
 * The buffer that a connection has for itself: room for one largest transfer, mapped for the disks
 * of its namespaces. When it is used is share.hot.ts' part.
 *
 * Over TCP alone: there a peer that stops can hold what was taken for it. A NIC that gets no answer
 * ends its queue pair by itself.
 */

import type { BackingMachine, HostRegion } from "../backing/interface.ts";
import { PAGE_SIZE } from "../core/index.ts";
import { cpuMemory, type HostMemory, mapHostMemory } from "../memory/index.ts";
import type { Namespace } from "./namespace.ts";
import type { MemoryShare } from "./share.hot.ts";

export class QueueReserve {
  private readonly machine: BackingMachine;
  private readonly region: HostRegion;
  private readonly own: HostMemory;
  private readonly share: MemoryShare;
  /** By the identifiers of a namespace's disks. */
  private readonly disks = new Map<string, HostMemory>();

  /** Throws `no-host-memory`. */
  constructor(machine: BackingMachine, bytes: number, share: MemoryShare) {
    this.machine = machine;
    this.region = machine.allocateHost(bytes, PAGE_SIZE, "payload");
    this.own = cpuMemory(this.region);
    this.share = share;
    share.reserveMemory = this.own;
    share.reserveBytes = bytes;
  }

  /** Lets the namespace's disks reach it. */
  map({ nsid, initiators }: Namespace): void {
    if (initiators.length === 0) return;
    const key = initiators.map(({ id }) => id).join();
    let memory = this.disks.get(key);
    if (memory === undefined) {
      memory = mapHostMemory(this.region, initiators);
      this.disks.set(key, memory);
    }
    this.share.reserveDisks[nsid] = memory;
  }

  /** Gives the memory back. No command may use it any more. */
  close(): void {
    this.share.reserveBytes = 0;
    for (const memory of this.disks.values()) memory.close();
    this.own.close();
    this.machine.freeHost(this.region);
  }
}
