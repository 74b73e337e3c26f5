import { describe, expect, it } from "vitest";
import { gpuMachine } from "../../testing/gpu-machine.ts";
import { bytesPerCall } from "../../testing/heap.ts";
import { Direction, importDmaBuf } from "../memory/index.ts";
import { GpuOp } from "../spec/gpu/index.ts";
import { GpuJob, GpuQueue, type QueueHardware } from "./queue.hot.ts";

describe("what an I/O leaves on the heap", () => {
  it("nothing, mapping a dma-buf", async () => {
    const { gpu, rules, near, far, drive } = gpuMachine();
    const { dmaBuf } = gpu.exportBuffer(gpu.allocate(65_536), { rules });
    const { memory, ...imported } = await importDmaBuf(dmaBuf, [near, far]);
    for (const attachment of imported.attachments) await drive(attachment.map());
    let refused = 0;
    const perIo = bytesPerCall(200_000, (calls) => {
      for (let i = 0; i < calls; i++) {
        if (!memory.begin()) refused++;
        if (memory.map(near.id, (i & 15) * 4096, 4096, Direction.toMemory) < 0) refused++;
        if (memory.map(far.id, (i & 15) * 4096, 4096, Direction.fromMemory) < 0) refused++;
        memory.end();
      }
    });
    expect(refused).toBe(0);
    // Addresses that may be boxed, nothing else.
    expect(perIo).toBeLessThan(64);
  });

  it("nothing, submitting a job and reaping it", () => {
    const fences = new DataView(new ArrayBuffer(16 * 16));
    const ring = new DataView(new ArrayBuffer(64 * 16));
    // A device that is done at once: it writes the fence that the descriptor asks for.
    const hardware: QueueHardware = {
      ringDoorbell: (_channel, put) => {
        const slot = (put - 1) & 15;
        fences.setUint32(slot * 16, ring.getUint32(slot * 64 + 4, true), true);
      },
      isRunning: () => true,
    };
    const queue = new GpuQueue(0, hardware, ring, fences, 0x1_0000_0000, 4);
    let done = 0;
    const job = new GpuJob({
      jobDone: () => {
        done++;
      },
    });
    job.opcode = GpuOp.copyIn;
    job.source = 0x12_3456_7000;
    job.length = 4096;
    let full = 0;
    const perJob = bytesPerCall(200_000, (calls) => {
      for (let i = 0; i < calls; i++) {
        if (!queue.submit(job)) full++;
        queue.kick();
        queue.poll();
      }
    });
    expect([full, queue.pending, done > 200_000]).toEqual([0, 0, true]);
    expect(perJob).toBeLessThan(32);
  });
});
