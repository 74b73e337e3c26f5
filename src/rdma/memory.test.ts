/**
 * RDMA from and to memory that is not the host's: regions and rw contexts over every description
 * that the RNIC can reach, and what happens when the memory goes away.
 */

import { afterEach, describe, expect, it } from "vitest";
import { bytesPerCall } from "../../testing/heap.ts";
import { type RdmaPair, rdmaPair } from "../../testing/rdma-pair.ts";
import {
  ALL_ACCESS,
  connectEnds,
  type Ends,
  idsOf,
  pattern,
  rdma,
  reap,
  recv,
  send,
  statusesOf,
} from "../../testing/verbs-setup.ts";
import type { Span, Tree } from "../core/index.ts";
import type { IommuMode } from "../machine/index.ts";
import {
  DmaAddressMemory,
  type HostMemory,
  type IoMemory,
  LeaseMemory,
  MapStatus,
  MemoryKind,
} from "../memory/index.ts";
import { WcStatus, WrFlag, WrOpcode } from "../spec/rdma/index.ts";
import { RecvWr, RW_FULL, RwContext, RwDirection, rwStatusName, SendWr, Wc } from "./index.ts";

const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];

let pair: RdmaPair;
const open = async (iommu: IommuMode = "off"): Promise<Ends> => {
  pair = await rdmaPair({ iommu });
  return connectEnds(pair);
};
afterEach(async () => {
  await pair.a.rdma.close();
  await pair.b.rdma.close();
});

describe.each(MODES)("peer memory, IOMMU %s", (mode) => {
  it("as a region: the peer writes to and reads from the BAR", async () => {
    const { a, b } = await open(mode);
    const lease = pair.b.lease();
    const mr = await b.pd.registerMemory(new LeaseMemory(lease), 4096, 65_536, ALL_ACCESS);
    const sent = pattern(a, 0, 20_000);
    const write = rdma(WrOpcode.rdmaWrite, a, 0, 20_000, b, 0);
    write.rkey = mr.rkey;
    write.remoteAddress = mr.address + 100;
    a.qp.postSend(write);
    const read = rdma(WrOpcode.rdmaRead, a, 100_000, 20_000, b, 0);
    read.rkey = mr.rkey;
    read.remoteAddress = mr.address + 100;
    read.flags |= WrFlag.fence;
    a.qp.postSend(read);
    a.qp.kick();
    pair.settle();
    expect(statusesOf(reap(a.cq))).toEqual([0, 0]);
    expect(pair.b.peek(4196, 20_000)).toEqual(sent);
    expect(a.bytes.slice(100_000, 120_000)).toEqual(sent);
    await mr.deregister();
    await lease.close();
  });

  it("through an rw context: READ into the BAR, WRITE from it", async () => {
    const { a, b } = await open(mode);
    const memory = new LeaseMemory(pair.b.lease());
    const there = pattern(a, 0, 10_000);
    const rw = new RwContext(2, 2);
    rw.begin(b.qp, b.pd.localDmaLkey, RwDirection.read, a.at(0), a.mr.rkey);
    expect(rw.add(memory, 8192, 4096)).toBe(0);
    expect(rw.add(memory, 12_288, 4096)).toBe(0);
    expect(rw.add(memory, 65_536, 1808)).toBe(0);
    // Neighbours share an SGE: one work request.
    expect(rw.wrCount).toBe(1);
    pair.b.fabric.resetTraffic();
    expect(rw.post(5, null)).toBe(0);
    b.qp.kick();
    pair.settle();
    // Into host memory went one completion, and nothing else.
    const hostBytes = pair.b.fabric.hostMemoryTraffic().reduce((n, t) => n + t.writtenBytes, 0);
    expect(hostBytes).toBe(32);
    expect(pair.b.fabric.peerTraffic()).toMatchObject([{ requester: b.side.bdf, bar: 2 }]);
    expect(reap(b.cq)).toMatchObject([{ wrId: 5, status: 0, byteLength: 10_000 }]);
    rw.end();
    expect(pair.b.peek(8192, 8192)).toEqual(there.slice(0, 8192));
    expect(pair.b.peek(65_536, 1808)).toEqual(there.slice(8192));

    a.qp.postRecv(recv(a, 200_000, 64, 8));
    rw.begin(b.qp, b.pd.localDmaLkey, RwDirection.write, a.at(300_000), a.mr.rkey);
    expect(rw.add(memory, 8192, 8192)).toBe(0);
    const response = send(b, 0, 16, 9);
    expect(rw.post(6, response)).toBe(0);
    b.qp.kick();
    pair.settle();
    expect(idsOf(reap(b.cq))).toEqual([9]);
    expect(reap(a.cq)).toMatchObject([{ wrId: 8, status: 0 }]);
    expect(a.bytes.slice(300_000, 308_192)).toEqual(there.slice(0, 8192));
    rw.end();
  });
});

describe("memory that goes away", () => {
  it("a revoked lease takes its regions with it, before its mappings go", async () => {
    const { a, b } = await open("strict");
    const lease = pair.b.lease();
    const memory = new LeaseMemory(lease);
    const mr = await b.pd.registerMemory(memory, 0, 65_536, ALL_ACCESS);
    expect(lease.inFlight).toBe(1);
    await lease.revoke("the SSD is pulled");
    expect(mr.valid).toBe(false);
    const write = rdma(WrOpcode.rdmaWrite, a, 0, 64, b, 0);
    write.rkey = mr.rkey;
    write.remoteAddress = mr.address;
    a.qp.postSend(write);
    a.qp.kick();
    pair.settle();
    expect(statusesOf(reap(a.cq))).toEqual([WcStatus.remoteAccessError]);
    await expect(b.pd.registerMemory(memory, 0, 4096, ALL_ACCESS)).rejects.toMatchObject({
      code: "mr-map",
      details: { mapStatus: MapStatus.revoked },
    });
    expect(lease.inFlight).toBe(0);
  });

  it("addresses of another initiator are not registered", async () => {
    const { b } = await open();
    const stranger = new DmaAddressMemory(b.side.dma.id + 1);
    await expect(b.pd.registerMemory(stranger, 4096, 4096, 1)).rejects.toMatchObject({
      code: "mr-map",
      details: { mapStatus: MapStatus.wrongInitiator },
    });
    const rw = new RwContext(1, 1);
    rw.begin(b.qp, b.pd.localDmaLkey, RwDirection.read, 0, 0);
    const status = rw.add(stranger, 4096, 4096);
    expect(status).toBe(-MapStatus.wrongInitiator);
    expect(rwStatusName(status)).toBe("address of another initiator");
    rw.end();
  });
});

/** Host memory that has to be unmapped, and counts. */
class CountingMemory implements IoMemory {
  readonly kind = MemoryKind.host;
  readonly cpuAccessible = true;
  readonly needsUnmap = true;
  mapped = 0;
  private readonly inner: HostMemory;

  constructor(inner: HostMemory) {
    this.inner = inner;
  }
  map(initiator: number, offset: number, length: number, direction: 1 | 2 | 3): number {
    this.mapped++;
    return this.inner.map(initiator, offset, length, direction);
  }
  unmap(): void {
    this.mapped--;
  }
  limitAddress(offset: number): number {
    return this.inner.limitAddress(offset);
  }
  bytes(offset: number, length: number, span: Span): boolean {
    return this.inner.bytes(offset, length, span);
  }
  inspect(): Tree {
    return this.inner.inspect();
  }
}

describe("rw context", () => {
  it("makes as many work requests as SGEs ask for, signals the last, unmaps all", async () => {
    const { a, b } = await open();
    const memory = new CountingMemory(b.side.host(1 << 20));
    const there = pattern(a, 0, 9 * 512);
    const rw = new RwContext(5, 2);
    rw.begin(b.qp, b.pd.localDmaLkey, RwDirection.read, a.at(0), a.mr.rkey);
    for (let i = 0; i < 9; i++) expect(rw.add(memory, i * 8192, 512)).toBe(0);
    expect(rw.wrCount).toBe(5);
    expect(memory.mapped).toBe(9);
    expect(rw.post(77, null)).toBe(0);
    b.qp.kick();
    pair.settle();
    expect(idsOf(reap(b.cq))).toEqual([77]);
    rw.end();
    expect(memory.mapped).toBe(0);
    const span = { bytes: new Uint8Array(0), offset: 0, length: 0 } as Span;
    span.set = (bytes, offset, length) => Object.assign(span, { bytes, offset, length });
    for (let i = 0; i < 9; i++) {
      expect(memory.bytes(i * 8192, 512, span)).toBe(true);
      const part = span.bytes.slice(span.offset, span.offset + 512);
      expect(part).toEqual(there.slice(i * 512, (i + 1) * 512));
    }
  });

  it("says when it is full, and leaves nothing mapped", async () => {
    const { b } = await open();
    const memory = new CountingMemory(b.side.host(1 << 20));
    const rw = new RwContext(1, 2);
    rw.begin(b.qp, b.pd.localDmaLkey, RwDirection.read, 0, 0);
    expect(rw.add(memory, 0, 512)).toBe(0);
    expect(rw.add(memory, 8192, 512)).toBe(0);
    expect(rw.add(memory, 16_384, 512)).toBe(RW_FULL);
    rw.end();
    expect(memory.mapped).toBe(0);
  });
});

describe("steady state", () => {
  it("allocates nothing per operation", async () => {
    const { a, b } = await open();
    const message = new SendWr(1);
    message.flags = WrFlag.signaled;
    message.setSge(a.at(0), 64, a.mr.lkey);
    const read = new SendWr(1);
    read.flags = WrFlag.signaled;
    read.opcode = WrOpcode.rdmaRead;
    read.setSge(a.at(4096), 4096, a.mr.lkey);
    read.remoteAddress = b.at(0);
    read.rkey = b.mr.rkey;
    const buffer = new RecvWr(1);
    buffer.setSge(b.at(0), 64, b.mr.lkey);
    const wc = new Wc();
    const { fabric } = pair.a;
    const work = (calls: number): void => {
      for (let i = 0; i < calls; i++) {
        b.qp.postRecv(buffer);
        a.qp.postSend(message);
        a.qp.postSend(read);
        a.qp.kick();
        fabric.poll();
        if (!b.cq.poll(wc) || !a.cq.poll(wc) || !a.cq.poll(wc)) throw new Error("lost");
      }
    };
    // Doubles are boxed, 16 bytes each, on their way through calls that are not inlined.
    expect(bytesPerCall(20_000, work)).toBeLessThan(128);
  });
});
