import { beforeEach, describe, expect, it } from "vitest";
import { type NvmeMachineOptions, nvmeMachine, SSD_CMB_BYTES } from "../../testing/nvme-machine.ts";
import {
  type Bio,
  BioOp,
  BioPool,
  BioResult,
  BlockStatus,
  blockStatusName,
  IntegrityPolicy,
  type RequestQueue,
} from "../block/index.ts";
import { Prng } from "../core/index.ts";
import { DmaAddressMemory, type IoMemory } from "../memory/index.ts";
import { AdminOpcode, Cns, LogPage, NvmeStatus, NvmOpcode } from "../spec/nvme/index.ts";
import { Tracer } from "../trace/index.ts";
import type { NvmeController, NvmeOptions } from "./index.ts";

const MIB = 1024 * 1024;

async function setup(machineOptions: NvmeMachineOptions = {}, options: NvmeOptions = {}) {
  const machine = nvmeMachine(machineOptions);
  const controller = await machine.attach({ queueDepth: 32, ...options });
  const { queue } = controller.namespaces[0];
  const memory = machine.hostMemory(4 * MIB);
  const pool = new BioPool(64, 16);
  const poll = () => machine.fabric.poll() + controller.poll();
  const make = (
    op: number,
    sector: number,
    result: BioResult,
    memory: IoMemory,
    offset: number,
    length: number,
  ): Bio => {
    const bio = pool.acquire() as Bio;
    bio.op = op;
    bio.sector = sector;
    bio.owner = result;
    expect(bio.addMemory(memory, offset, length)).toBe(BlockStatus.ok);
    return bio;
  };
  const io = (
    op: number,
    sector: number,
    memory: IoMemory,
    offset: number,
    length: number,
    on: RequestQueue = queue,
  ) => {
    const result = new BioResult();
    const bio = make(op, sector, result, memory, offset, length);
    on.submit(bio);
    on.kick();
    for (let i = 0; i < 1000 && result.done === 0; i++) poll();
    expect(result.done, "the bio ended").toBe(1);
    pool.release(bio);
    return blockStatusName(result.status);
  };
  return {
    ...machine,
    controller,
    queue,
    memory,
    bytes: memory.region.bytes,
    pool,
    poll,
    make,
    io,
  };
}

type Setup = Awaited<ReturnType<typeof setup>>;

/** Lets simulated time pass while everything is polled. */
async function pass({ fabric, poll }: Setup, ns: number): Promise<void> {
  for (let i = 0; i < 20; i++) {
    while (poll() > 0);
    await fabric.clock.sleep(ns / 20);
  }
  while (poll() > 0);
}

describe("bring-up", () => {
  it("learns what the controller says and makes limits of it", async () => {
    const { controller, queue } = await setup({ model: { sgl: false, mdts: 5 } });
    expect(controller.info).toMatchObject({ serial: "PEERLANE0001", maxTransferBytes: 131_072 });
    expect(controller.namespaces.map(({ info }) => [info.nsid, info.lbaBytes])).toEqual([[1, 512]]);
    expect(queue.limits).toMatchObject({
      maxBytes: 131_072,
      virtBoundary: 4096,
      dmaAlignment: 4,
      segmentBoundary: 2 ** 52,
    });
    expect(queue.capacityBytes).toBe(64 * MIB);
    const withSgl = await setup();
    expect(withSgl.queue.limits.virtBoundary).toBe(0);
  });

  it("takes fewer queues and shallower ones where the controller has no more", async () => {
    const model = { maxQueues: 2, maxEntries: 16, dstrd: 2 };
    const { controller, io, memory } = await setup({ model }, { ioQueues: 5, queueDepth: 64 });
    expect(controller.ioQueues.map(({ pair }) => [pair.qid, pair.depth])).toEqual([
      [1, 16],
      [2, 16],
    ]);
    expect(io(BioOp.write, 0, memory, 0, 4096)).toBe("ok");
  });

  it("waits for a slow controller", async () => {
    const { controller } = await setup({ model: { readyDelayNs: 400e6 } });
    expect(controller.state).toBe("live");
  });

  it("spreads batches over its queues", async () => {
    const { controller, io, memory } = await setup({}, { ioQueues: 3 });
    for (let i = 0; i < 9; i++) expect(io(BioOp.write, i * 64, memory, 0, 4096)).toBe("ok");
    expect(controller.ioQueues.map(({ pair }) => pair.submitted)).toEqual([3, 3, 3]);
  });

  it("opens namespaces of any block size, and says why not one that it cannot use", async () => {
    const { controller } = await setup({
      model: {
        namespaces: [
          { sizeBytes: MIB, lbaBytes: 4096 },
          { sizeBytes: MIB, metadataBytes: 8 },
          { sizeBytes: MIB, metadataBytes: 8, piType: 1 },
          { sizeBytes: MIB, metadataBytes: 64, piType: 1, extended: true },
        ],
      },
    });
    const { namespaces, unsupportedNamespaces } = controller;
    expect(namespaces.map(({ info }) => [info.nsid, info.lbaBytes, info.piType])).toEqual([
      [1, 4096, 0],
      [3, 512, 1],
    ]);
    expect(unsupportedNamespaces.map(({ nsid, unsupported }) => [nsid, unsupported])).toEqual([
      [2, "metadata without protection information"],
      [4, "metadata inside logical blocks that the controller cannot insert"],
    ]);
  });

  it.each([
    ["a controller that is not there", "nvme-gone"],
    ["an admin command that never completes", "nvme-admin-timeout"],
    ["an Identify that fails", "nvme-admin-failed"],
    ["a page size that it lacks", "nvme-unsupported"],
  ])("fails with a reason and leaves nothing allocated: %s", async (_, code) => {
    const machine = nvmeMachine();
    const { fabric, device, model } = machine;
    if (code === "nvme-gone") fabric.remove(device.bdf);
    const opcode = AdminOpcode.identify;
    if (code === "nvme-admin-timeout") model.injectFaults([{ admin: true, opcode, drop: true }]);
    if (code === "nvme-admin-failed") {
      model.injectFaults([{ admin: true, opcode, status: NvmeStatus.internalError }]);
    }
    const pageBytes = code === "nvme-unsupported" ? 131_072 : 4096;
    const attach = machine.attach({ adminTimeoutNs: 1e9, pageBytes });
    await expect(attach).rejects.toMatchObject({ code, remedy: expect.any(String) });
    expect(device.inspect()).toMatchObject({ coherentBuffers: 0 });
  });

  it.each([{ queueDepth: 1 }, { ioQueues: 0 }, { pageBytes: 5000 }, { maxTransferBytes: 2 ** 24 }])(
    "refuses options that make no sense: %o",
    async (options) => {
      await expect(nvmeMachine().attach(options)).rejects.toMatchObject({
        code: "bad-nvme-option",
      });
    },
  );
});

describe("data", () => {
  it("goes as PRPs or SGLs by the average segment, and as SGLs over gaps", async () => {
    const { controller, io, memory, make, queue, poll } = await setup();
    const { counters } = controller.ioQueues[0];
    io(BioOp.write, 0, memory, 512, 8192);
    expect(counters).toMatchObject({ prp: 1, sgl: 0, lists: 1 });
    io(BioOp.write, 0, memory, 0, 32_768);
    expect(counters).toMatchObject({ prp: 1, sgl: 1, lists: 1 });
    const result = new BioResult();
    const bio = make(BioOp.write, 0, result, memory, 512, 512);
    bio.addMemory(memory, 4096, 512);
    queue.submit(bio);
    queue.kick();
    for (let i = 0; i < 10; i++) poll();
    expect(result).toMatchObject({ done: 1, status: BlockStatus.ok });
    expect(counters).toMatchObject({ prp: 1, sgl: 2, lists: 2 });
  });

  it("takes large transfers through chained lists", async () => {
    const options = { maxTransferBytes: 8 * MIB, maxSegments: 4 };
    const { io, memory, bytes, controller } = await setup(
      { model: { sgl: false, mdts: 0 } },
      options,
    );
    new Prng(4).fill(bytes);
    const before = bytes.slice(4, 4 + 3 * MIB);
    expect(io(BioOp.write, 8, memory, 4, 3 * MIB)).toBe("ok");
    expect(controller.ioQueues[0].counters.lists).toBe(2);
    bytes.fill(0);
    expect(io(BioOp.read, 8, memory, 256, 3 * MIB)).toBe("ok");
    expect(Buffer.compare(bytes.subarray(256, 256 + 3 * MIB), before)).toBe(0);
  });

  it("comes straight from the CMB or a peer, where bus and physical differ", async () => {
    const { controller, device, peer, fabric, io, memory, bytes, model } = await setup();
    const { cmb } = controller;
    expect(cmb).toMatchObject({ bar: 2, offset: 0, sizeBytes: SSD_CMB_BYTES, readable: true });
    if (cmb === null) return;
    expect(cmb.bus - cmb.phys).toBe(-0x1000_0000);
    const region = device.fn.mapBar(2);
    region.writeBytes(
      8192,
      Uint8Array.from({ length: 4096 }, (_, i) => i * 5),
    );
    const own = new DmaAddressMemory(device.id);
    expect(io(BioOp.write, 16, own, cmb.bus + 8192, 4096)).toBe("ok");
    const peerBar = peer.fn.barAddress(2);
    if (peerBar === null) throw new Error("the peer has a BAR");
    fabric.resetTraffic();
    expect(io(BioOp.read, 16, own, peerBar.bus + 4096, 4096)).toBe("ok");
    const landed = new Uint8Array(4096);
    fabric.peek(peer.bdf, 2, 4096, landed);
    expect(landed).toEqual(Uint8Array.from({ length: 4096 }, (_, i) => i * 5));
    // Not one byte of the payload went through host memory.
    const payload = fabric.hostMemoryTraffic().filter(({ requester }) => requester === device.bdf);
    const total = payload.reduce((sum, row) => sum + row.readBytes + row.writtenBytes, 0);
    expect(total).toBeLessThan(1024);
    expect(io(BioOp.read, 16, memory, 0, 4096)).toBe("ok");
    expect(bytes[3]).toBe(15);
    expect(model.inspect()).toMatchObject({ running: true });
    // A DMA address derived for somebody else is refused before the controller sees it.
    expect(io(BioOp.write, 16, new DmaAddressMemory(peer.id), cmb.bus, 4096)).toBe(
      "address of another initiator",
    );
  });

  it("is refused by the controller where the address leads nowhere", async () => {
    const { io, device, controller } = await setup();
    const own = new DmaAddressMemory(device.id);
    expect(io(BioOp.write, 0, own, 0x7000_0000_0000, 4096)).toBe("transport error");
    expect(controller.ioQueues[0].lastFailure & 0x7ff).toBe(NvmeStatus.dataTransferError);
  });
});

describe("protection information", () => {
  const namespaces = [{ sizeBytes: MIB, metadataBytes: 8, piType: 1 }];
  it("is inserted and checked by the controller, peer memory or not", async () => {
    const { io, controller, device, memory } = await setup({ model: { namespaces } });
    const own = new DmaAddressMemory(device.id);
    const bus = controller.cmb?.bus ?? 0;
    expect(io(BioOp.write, 8, own, bus, 4096)).toBe("ok");
    expect(io(BioOp.read, 8, memory, 0, 4096)).toBe("ok");
  });

  it("is made by the CPU where asked to, and for peer memory by the controller", async () => {
    const { io, controller, device, memory, bytes, queue } = await setup(
      { model: { namespaces } },
      { integrityPolicy: IntegrityPolicy.hostFirst },
    );
    new Prng(5).fill(bytes.subarray(0, 64 * 1024));
    expect(io(BioOp.write, 8, memory, 512, 64 * 1024)).toBe("ok");
    // Written with tags of the CPU, read with those of the controller, and the other way round.
    const own = new DmaAddressMemory(device.id);
    const bus = controller.cmb?.bus ?? 0;
    expect(io(BioOp.read, 8, own, bus, 64 * 1024)).toBe("ok");
    expect(io(BioOp.write, 512, own, bus, 64 * 1024)).toBe("ok");
    expect(io(BioOp.read, 512, memory, MIB, 64 * 1024)).toBe("ok");
    expect(Buffer.compare(bytes.subarray(MIB, MIB + 65_536), bytes.subarray(512, 66_048))).toBe(0);
    expect(queue.integrity?.mismatches).toBe(0);
  });

  it("is never dropped: what nobody can make it for is refused", async () => {
    const wide = [{ sizeBytes: MIB, metadataBytes: 64, piType: 2 }];
    const { io, controller, device, memory, queue } = await setup({ model: { namespaces: wide } });
    expect(io(BioOp.write, 8, memory, 0, 8192)).toBe("ok");
    expect(io(BioOp.read, 8, memory, 8192, 8192)).toBe("ok");
    const own = new DmaAddressMemory(device.id);
    expect(io(BioOp.write, 8, own, controller.cmb?.bus ?? 0, 4096)).toBe("protection error");
    expect(queue.counters.integrityRefused).toBe(1);
  });
});

describe("submission queues in the CMB", () => {
  it("are there, and peers still get the rest", async () => {
    const { controller, io, memory, device } = await setup({}, { useCmbSqs: true, ioQueues: 2 });
    const { cmb } = controller;
    expect(controller.counters.cmbSqFallbacks).toBe(0);
    expect(cmb?.provider.pool.available).toBe(SSD_CMB_BYTES - 2 * 4096);
    expect(io(BioOp.write, 24, memory, 0, 4096)).toBe("ok");
    const entry = new Uint8Array(64);
    device.fn.mapBar(2).readBytes(0, entry);
    expect([entry[0], entry[40]]).toEqual([NvmOpcode.write, 24]);
  });

  it("fall back to host memory with a counter, never in silence", async () => {
    const cmb = { bar: 2, offset: 0, sizeBytes: 4096 };
    const options = { useCmbSqs: true, queueDepth: 128 };
    const { controller, io, memory } = await setup({ model: { cmb } }, options);
    expect(controller.counters.cmbSqFallbacks).toBe(1);
    expect(io(BioOp.write, 0, memory, 0, 4096)).toBe("ok");
    const none = await setup({ model: { cmb: { ...cmb, submissionQueues: false } } }, options);
    expect(none.controller.counters.cmbSqFallbacks).toBe(1);
  });
});

describe("the CMB", () => {
  it("is absent where the controller has none, and inspect says so", async () => {
    const { controller } = await setup({ model: { cmb: null } });
    expect(controller.cmb).toBeNull();
    expect(controller.inspect().cmb).toEqual({ none: "CMBSZ is 0: the controller has none" });
  });

  it("of a controller before 1.4 is known by its BAR", async () => {
    const cmb = { bar: 2, offset: 8192, sizeBytes: 65_536, legacy: true };
    const { controller, io, device, memory, bytes } = await setup({ model: { cmb } });
    expect(controller.cmb).toMatchObject({ offset: 8192, sizeBytes: 65_536 });
    const own = new DmaAddressMemory(device.id);
    bytes.fill(0x77, 0, 4096);
    expect(io(BioOp.write, 0, memory, 0, 4096)).toBe("ok");
    expect(io(BioOp.read, 0, own, controller.cmb?.bus ?? 0, 4096)).toBe("ok");
    const got = new Uint8Array(4096);
    device.fn.mapBar(2).readBytes(8192, got);
    expect(got[100]).toBe(0x77);
  });
});

describe("when things go wrong", () => {
  let s: Setup;
  const options = { ioTimeoutNs: 1e9, adminTimeoutNs: 2e9, attemptsMax: 3 };
  beforeEach(async () => {
    s = await setup({}, options);
  });

  const submitMany = (count: number): BioResult => {
    const result = new BioResult();
    for (let i = 0; i < count; i++) {
      s.queue.submit(s.make(BioOp.write, i * 64, result, s.memory, i * 8192, 4096));
    }
    s.queue.kick();
    return result;
  };

  it.each([
    [NvmeStatus.unrecoveredReadError, "medium error"],
    [NvmeStatus.lbaOutOfRange, "out of range"],
    [NvmeStatus.capacityExceeded, "no space"],
    [NvmeStatus.invalidField, "invalid request"],
    [NvmeStatus.namespaceWriteProtected, "write protected"],
    [NvmeStatus.guardCheckError, "protection error"],
    [NvmeStatus.operationDenied, "target refused"],
    [0x7c5, "I/O error"],
  ])("status %i is told as it is", (status, name) => {
    s.model.injectFaults([{ status }]);
    expect(s.io(BioOp.write, 0, s.memory, 0, 4096)).toBe(name);
    expect(s.controller.ioQueues[0].lastFailure & 0x7ff).toBe(status);
  });

  it("tries again what may pass, a bounded number of times", () => {
    s.model.injectFaults([{ status: NvmeStatus.namespaceNotReady, count: 2 }]);
    expect(s.io(BioOp.write, 0, s.memory, 0, 4096)).toBe("ok");
    expect(s.controller.ioQueues[0].counters.retries).toBe(2);
    s.model.injectFaults([{ status: NvmeStatus.namespaceNotReady }]);
    expect(s.io(BioOp.write, 0, s.memory, 0, 4096)).toBe("target refused");
    expect(s.controller.ioQueues[0].counters.retries).toBe(4);
  });

  it("aborts a command that times out; the others are untouched", async () => {
    s.model.injectFaults([{ drop: true, count: 1 }]);
    const result = submitMany(4);
    await pass(s, 0);
    expect(result.done).toBe(3);
    await pass(s, 1.5e9);
    expect([result.done, blockStatusName(result.status)]).toEqual([4, "timeout"]);
    expect(s.controller.counters).toMatchObject({ abortsSent: 1, resets: 0 });
  });

  it("resets a controller that does not even abort, and sends everything again", async () => {
    const { abort } = AdminOpcode;
    s.model.injectFaults([
      { drop: true, count: 3 },
      { admin: true, opcode: abort, drop: true },
    ]);
    const result = submitMany(8);
    await pass(s, 4e9);
    expect([result.done, blockStatusName(result.status)]).toEqual([8, "ok"]);
    expect(s.controller.counters.resets).toBe(1);
    expect(s.controller.state).toBe("live");
    expect(s.io(BioOp.read, 0, s.memory, 0, 4096)).toBe("ok");
  });

  it("gives up on a command that is lost every time", async () => {
    s.model.injectFaults([
      { drop: true, firstLba: 64, lastLba: 64 },
      { admin: true, opcode: AdminOpcode.abort, drop: true },
    ]);
    const result = submitMany(4);
    await pass(s, 20e9);
    expect([result.done, blockStatusName(result.status)]).toEqual([4, "timeout"]);
    expect(s.controller.counters.resets).toBe(3);
  });

  it("survives a reset under load with every byte in place", async () => {
    const { bytes, memory, queue, controller, fabric } = s;
    new Prng(6).fill(bytes);
    const result = new BioResult();
    for (let i = 0; i < 60; i++) {
      queue.submit(s.make(BioOp.write, i * 16, result, memory, i * 8192, 8192));
      if (i % 20 === 19) {
        queue.kick();
        if (i === 39) fabric.poll();
        await controller.reset();
      }
    }
    await pass(s, 0);
    expect([result.done, blockStatusName(result.status)]).toEqual([60, "ok"]);
    expect(controller.counters.resets).toBe(3);
    expect(s.io(BioOp.read, 0, memory, 2 * MIB, 60 * 8192)).toBe("ok");
    const got = bytes.subarray(2 * MIB, 2 * MIB + 60 * 8192);
    expect(Buffer.compare(got, bytes.subarray(0, 60 * 8192))).toBe(0);
  });

  it("is reset by polling alone when it reports a fatal status", async () => {
    s.model.fatal();
    const result = submitMany(4);
    await pass(s, 1e9);
    expect([result.done, blockStatusName(result.status)]).toEqual([4, "ok"]);
    expect(s.controller.failure?.message).toContain("CSTS.CFS");
  });

  it("fails everything at once when the device is pulled", async () => {
    s.model.injectFaults([{ drop: true }]);
    const result = submitMany(6);
    s.fabric.poll();
    s.fabric.remove(s.device.bdf);
    await pass(s, 1e9);
    expect([result.done, blockStatusName(result.status)]).toEqual([6, "device offline"]);
    expect(s.controller.state).toBe("dead");
    expect(s.controller.failure?.code).toBe("nvme-gone");
    expect(s.io(BioOp.read, 0, s.memory, 0, 4096)).toBe("device offline");
    expect(s.controller.cmb?.provider.state).not.toBe("alive");
    await s.controller.shutdown();
    expect(s.device.inspect()).toMatchObject({ coherentBuffers: 0 });
  });

  it("dies when it does not come back from a reset", async () => {
    s.model.injectFaults([{ drop: true }, { admin: true, drop: true }]);
    const result = submitMany(2);
    await pass(s, 20e9);
    expect([result.done, blockStatusName(result.status)]).toEqual([2, "device offline"]);
    expect(s.controller.state).toBe("dead");
    expect(s.controller.failure?.code).toBe("nvme-admin-timeout");
  });
});

describe("the control plane", () => {
  const adminEntry = (opcode: number, nsid: number, cdw10: number, cdw11 = 0): Uint8Array => {
    const entry = new Uint8Array(64);
    const view = new DataView(entry.buffer);
    view.setUint8(0, opcode);
    view.setUint32(4, nsid, true);
    view.setUint32(40, cdw10, true);
    view.setUint32(44, cdw11, true);
    return entry;
  };

  it("takes raw admin commands", async () => {
    const { controller, device } = await setup();
    const before = device.inspect();
    const data = new Uint8Array(4096);
    const identify = adminEntry(AdminOpcode.identify, 0, Cns.controller);
    expect(await controller.admin(identify, data)).toEqual({ status: 0, dw0: 0 });
    expect(Buffer.from(data.subarray(4, 16)).toString()).toBe("PEERLANE0001");
    const unknown = await controller.admin(adminEntry(0xc3, 0, 0));
    expect(unknown.status & 0x7ff).toBe(NvmeStatus.invalidOpcode);
    await expect(controller.admin(identify, new Uint8Array(65_536))).rejects.toMatchObject({
      code: "nvme-admin-size",
    });
    expect(device.inspect()).toEqual(before);
  });

  it("keeps the buffer of a raw command that never ends until after a reset", async () => {
    const { controller, device, model, poll } = await setup({}, { adminTimeoutNs: 1e9 });
    const before = device.inspect();
    model.injectFaults([{ admin: true, opcode: AdminOpcode.identify, drop: true }]);
    const identify = adminEntry(AdminOpcode.identify, 0, Cns.controller);
    const answer = controller.admin(identify, new Uint8Array(4096));
    await expect(answer).rejects.toMatchObject({ code: "nvme-admin-timeout" });
    expect(controller.state).toBe("resetting");
    expect(device.inspect()).not.toEqual(before);
    model.injectFaults([]);
    while (controller.state === "resetting") poll();
    expect(controller.state).toBe("live");
    expect(device.inspect()).toEqual(before);
  });

  it("tells whoever waits for an admin command when a reset takes it away", async () => {
    const { controller, device, model } = await setup();
    const before = device.inspect();
    model.injectFaults([{ admin: true, opcode: AdminOpcode.identify, drop: true, count: 1 }]);
    const identify = adminEntry(AdminOpcode.identify, 0, Cns.controller);
    const answer = controller.admin(identify, new Uint8Array(4096));
    await controller.reset();
    expect((await answer).status).toBe(NvmeStatus.abortedByHost);
    expect(device.inspect()).toEqual(before);
    expect(controller.counters.resets).toBe(1);
  });

  it("keeps asynchronous events, reads their log page, and asks for more", async () => {
    const s = await setup();
    const { controller, model, poll } = s;
    const told: number[] = [];
    controller.events.listener = (event) => told.push(event.logPage);
    for (const kelvins of [400, 300, 400]) {
      model.setTemperature(kelvins);
      while (poll() > 0);
    }
    expect(told).toEqual([LogPage.smart, LogPage.smart]);
    expect(controller.events.events[0]).toMatchObject({ logStatus: 0, criticalWarning: 2 });
    expect(controller.events.outstanding).toBe(4);
  });

  it("shuts down in order, frees everything, and takes the CMB away from its users", async () => {
    const s = await setup({}, { useCmbSqs: true });
    const { controller, device, model, io, memory } = s;
    expect(io(BioOp.write, 0, memory, 0, 4096)).toBe("ok");
    const { cmb } = controller;
    await controller.shutdown();
    await controller.shutdown();
    expect(controller.state).toBe("shut-down");
    expect(cmb?.provider.state).toBe("dead");
    expect(device.inspect()).toMatchObject({ coherentBuffers: 0 });
    expect(model.inspect()).toMatchObject({ running: false });
    expect(io(BioOp.read, 0, memory, 0, 4096)).toBe("device offline");
    await expect(controller.admin(adminEntry(6, 0, 1))).rejects.toMatchObject({
      code: "nvme-not-live",
    });
  });

  it("can be attached again after a shutdown", async () => {
    const s = await setup();
    await s.controller.shutdown();
    const again: NvmeController = await s.attach();
    expect(again.state).toBe("live");
    expect(again.cmb?.sizeBytes).toBe(SSD_CMB_BYTES);
  });

  it("shows itself, and traces what it does", async () => {
    const tracer = new Tracer(() => 0, 256);
    const { controller, io, memory } = await setup({}, { tracer });
    tracer.on = true;
    expect(io(BioOp.write, 8, memory, 0, 4096)).toBe("ok");
    expect([...tracer.records()].map(({ args }) => args.slice(0, 3))).toEqual([
      [1, 1, expect.any(Number)],
      [1, BioOp.write, 8],
      [1, 1, expect.any(Number)],
      [1, BioOp.write, 8],
    ]);
    expect(controller.inspect()).toMatchObject({
      function: "0000:03:00.0",
      state: "live",
      failure: null,
      serial: "PEERLANE0001",
      queues: [{ queue: { qid: 1, submitted: 1, completed: 1, inFlight: 0 } }],
      namespaces: [{ counters: { bios: 1, completed: 1 } }],
    });
  });
});
