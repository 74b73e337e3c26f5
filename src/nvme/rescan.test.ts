/** Namespaces that a controller gains and loses while its driver runs. */

import { expect, it } from "vitest";
import { nvmeMachine } from "../../testing/nvme-machine.ts";
import { type Bio, BioOp, BioPool, BioResult, BlockStatus } from "../block/index.ts";
import { AdminOpcode, Cns, NoticeEvent, NvmeStatus } from "../spec/nvme/index.ts";

it("follows the controller's namespaces, and uses a free identifier again", async () => {
  const machine = nvmeMachine({ model: { namespaces: [] } });
  const controller = await machine.attach();
  expect(controller.namespaces).toEqual([]);
  const { model, fabric } = machine;
  const nsids = (): number[] => controller.namespaces.map(({ info }) => info.nsid);
  for (const sizeBytes of [2 ** 20, 2 ** 21]) model.addNamespace({ sizeBytes });
  await controller.rescan();
  expect(nsids()).toEqual([1, 2]);
  for (let i = 0; i < 100; i++) if (fabric.poll() + controller.poll() === 0) break;
  const notice = controller.events.events.at(-1);
  expect(notice?.info).toBe(NoticeEvent.namespaceAttribute);
  expect(notice?.changedNamespaces).toContain(1);

  const pool = new BioPool(1, 1);
  const memory = machine.hostMemory(4096);
  const write = (index: number): number => {
    const result = new BioResult();
    const bio = pool.acquire() as Bio;
    bio.op = BioOp.write;
    bio.owner = result;
    bio.addMemory(memory, 0, 4096);
    const { queue } = controller.namespaces[index];
    queue.submit(bio);
    queue.kick();
    if (result.done === 0) expect(queue.isIdle).toBe(false);
    for (let i = 0; i < 1000 && result.done === 0; i++) fabric.poll() + controller.poll();
    expect(result.done).toBe(1);
    expect(queue.isIdle).toBe(true);
    pool.release(bio);
    return result.status;
  };
  expect(write(0)).toBe(BlockStatus.ok);
  model.removeNamespace(1);
  // The driver has not looked again: the controller itself refuses.
  expect(write(0)).toBe(BlockStatus.invalid);
  await controller.rescan();
  expect(nsids()).toEqual([2]);
  expect(write(0)).toBe(BlockStatus.ok);
  const identify = async (nsid: number, cns: number) => {
    const sqe = new Uint8Array(64);
    sqe[0] = AdminOpcode.identify;
    sqe[4] = nsid;
    sqe[40] = cns;
    const page = new Uint8Array(4096);
    const { status } = await controller.admin(sqe, page);
    return { status: status & 0x7ff, page };
  };
  expect((await identify(1, Cns.namespace)).page.every((byte) => byte === 0)).toBe(true);
  const gone = await identify(1, Cns.namespaceDescriptors);
  expect(gone.status).toBe(NvmeStatus.invalidNamespaceOrFormat);

  expect(model.addNamespace({ sizeBytes: 2 ** 22, lbaBytes: 4096 })).toBe(1);
  await controller.rescan();
  expect(nsids().sort()).toEqual([1, 2]);
  const again = controller.namespaces.find(({ info }) => info.nsid === 1);
  expect(again?.info).toMatchObject({ blocks: 1024, lbaBytes: 4096 });
  expect(write(1)).toBe(BlockStatus.ok);
  await controller.shutdown();
  await expect(controller.rescan()).rejects.toThrow(/shut-down/);
});
