/**
 * The smallest host that can drive an NVMe controller: it writes entries and doorbells and reads
 * completions, and knows nothing else. For tests of the controller model alone; the driver of the
 * stack is src/nvme.
 */

import { assert } from "../src/core/index.ts";
import {
  type DeviceModel,
  NvmeModel,
  type NvmeModelOptions,
  type RegisterHandler,
} from "../src/fabric/index.ts";
import * as spec from "../src/spec/nvme/index.ts";
import { FakePort, type FakePortOptions } from "./fake-port.ts";

export interface Completion {
  readonly cid: number;
  /** SCT and SC alone. */
  readonly code: number;
  /** With CRD, More and DNR. */
  readonly status: number;
  readonly result: number;
  readonly sqhd: number;
  readonly sqid: number;
}

/** Fields of a submission queue entry; what is absent is zero. */
export interface RawCommand {
  readonly opcode: number;
  readonly cid?: number;
  readonly psdt?: number;
  readonly fuse?: number;
  readonly nsid?: number;
  readonly mptr?: number;
  readonly prp1?: number;
  readonly prp2?: number;
  /** Overrides prp1 and prp2. */
  readonly sgl?: { address: number; length: number; type: number; subtype?: number };
  readonly cdw10?: number;
  readonly cdw11?: number;
  readonly cdw12?: number;
  readonly cdw13?: number;
  readonly cdw14?: number;
  readonly cdw15?: number;
}

export class RawQueue {
  readonly qid: number;
  readonly entries: number;
  readonly sqAddress: number;
  readonly cqAddress: number;
  tail = 0;
  head = 0;
  phase = 1;

  constructor(qid: number, entries: number, sqAddress: number, cqAddress: number) {
    this.qid = qid;
    this.entries = entries;
    this.sqAddress = sqAddress;
    this.cqAddress = cqAddress;
  }
}

/** The first MiB of the port's memory is the host's for queues; tests may use the rest. */
export const TEST_DATA_OFFSET = 1024 * 1024;

export class RawNvmeHost {
  readonly port: FakePort;
  readonly model: DeviceModel;
  readonly registers: RegisterHandler;
  readonly admin: RawQueue;
  private readonly dstrd: number;
  private nextQueuePage = 32;
  private nextCid = 1;

  constructor(model: DeviceModel, port: FakePort, adminEntries = 32, dstrd = 0) {
    this.port = port;
    this.model = model;
    this.dstrd = dstrd;
    model.attach(port);
    model.reset();
    const region = model.barRegions().find((candidate) => candidate.registers !== null);
    assert(region !== undefined, "the model has registers");
    this.registers = region.registers as RegisterHandler;
    this.admin = new RawQueue(0, adminEntries, port.base, port.base + 16 * 4096);
  }

  /** The address of test data at `offset`. */
  data(offset = 0): number {
    return this.port.base + TEST_DATA_OFFSET + offset;
  }

  /** The bytes of test data, in place. */
  bytes(offset: number, length: number): Uint8Array {
    const at = TEST_DATA_OFFSET + offset;
    return this.port.memory.subarray(at, at + length);
  }

  setAdminQueue(): void {
    const { registers, admin } = this;
    const last = admin.entries - 1;
    registers.write32(spec.Reg.aqa, spec.AQA_ACQS.set(last, last));
    registers.write32(spec.Reg.asqLo, admin.sqAddress >>> 0);
    registers.write32(spec.Reg.asqHi, Math.floor(admin.sqAddress / 2 ** 32));
    registers.write32(spec.Reg.acqLo, admin.cqAddress >>> 0);
    registers.write32(spec.Reg.acqHi, Math.floor(admin.cqAddress / 2 ** 32));
  }

  /** Sets the admin queue up and enables the controller; returns CSTS. */
  enable(cc = 0x0046_0001): number {
    this.setAdminQueue();
    this.admin.head = 0;
    this.admin.tail = 0;
    this.admin.phase = 1;
    this.port.memory.fill(0, 0, TEST_DATA_OFFSET);
    this.registers.write32(spec.Reg.cc, cc);
    return this.registers.read32(spec.Reg.csts);
  }

  /** Creates an I/O queue pair, with addresses of its own unless given. */
  createQueue(
    qid: number,
    entries: number,
    where: { sq?: number; cq?: number; vector?: number; interrupts?: boolean } = {},
  ): RawQueue {
    const queue = new RawQueue(
      qid,
      entries,
      where.sq ?? this.takePages(entries * spec.SQE_BYTES),
      where.cq ?? this.takePages(entries * spec.CQE_BYTES),
    );
    const size = ((entries - 1) << 16) | qid;
    const cq = this.adminCommand({
      opcode: spec.AdminOpcode.createIoCq,
      prp1: queue.cqAddress,
      cdw10: size,
      cdw11: ((where.vector ?? qid) << 16) | ((where.interrupts ?? true) ? 3 : 1),
    });
    assert(cq.code === 0, "the completion queue is created");
    const sq = this.adminCommand({
      opcode: spec.AdminOpcode.createIoSq,
      prp1: queue.sqAddress,
      cdw10: size,
      cdw11: (qid << 16) | 1,
    });
    assert(sq.code === 0, "the submission queue is created");
    return queue;
  }

  /** Writes an entry at the tail; returns its CID. The doorbell is not rung. */
  write(queue: RawQueue, command: RawCommand): number {
    const cid = command.cid ?? this.nextCid;
    this.nextCid = (this.nextCid % 0xfff0) + 1;
    const entry = encode(command, cid);
    const at = queue.sqAddress - this.port.base + queue.tail * spec.SQE_BYTES;
    this.port.memory.set(entry, at);
    queue.tail = (queue.tail + 1) % queue.entries;
    return cid;
  }

  ring(queue: RawQueue, tail = queue.tail): void {
    this.registers.write32(spec.sqTailDoorbell(queue.qid, this.dstrd), tail);
  }

  /** New completions, in order; the head doorbell is rung unless told not to. */
  poll(queue: RawQueue, ringHead = true): Completion[] {
    const found: Completion[] = [];
    for (;;) {
      const at = queue.cqAddress - this.port.base + queue.head * spec.CQE_BYTES;
      const word = this.port.view.getUint32(at + 12, true);
      if (spec.CQE_PHASE.get(word) !== queue.phase) break;
      const sq = this.port.view.getUint32(at + 8, true);
      const status = spec.CQE_STATUS.get(word);
      found.push({
        cid: spec.CQE_CID.get(word),
        code: spec.statusCode(status),
        status,
        result: this.port.view.getUint32(at, true),
        sqhd: spec.CQE_SQHD.get(sq),
        sqid: spec.CQE_SQID.get(sq),
      });
      queue.head++;
      if (queue.head === queue.entries) {
        queue.head = 0;
        queue.phase ^= 1;
      }
      if (found.length >= queue.entries) break;
    }
    if (found.length > 0 && ringHead) this.ringHead(queue);
    return found;
  }

  ringHead(queue: RawQueue): void {
    this.registers.write32(spec.cqHeadDoorbell(queue.qid, this.dstrd), queue.head);
  }

  /** Submits one command and runs the model until it is done. */
  submit(queue: RawQueue, command: RawCommand): Completion {
    const cid = this.write(queue, command);
    this.ring(queue);
    this.settle();
    const [completion, ...more] = this.poll(queue);
    assert(completion !== undefined && more.length === 0, "one command has one completion");
    assert(completion.cid === cid, "a completion carries its command's CID");
    return completion;
  }

  adminCommand(command: RawCommand): Completion {
    return this.submit(this.admin, command);
  }

  /** Runs steps, transfers and nothing else until all is quiet. */
  settle(): void {
    do this.port.run(this.model);
    while (this.port.land() > 0 || this.port.woken);
  }

  private takePages(bytes: number): number {
    const page = this.nextQueuePage;
    this.nextQueuePage += Math.ceil(bytes / 4096);
    assert(this.nextQueuePage * 4096 <= TEST_DATA_OFFSET, "test queues fit their memory");
    return this.port.base + page * 4096;
  }
}

/** Options of a model under test; what is absent gets the model's defaults and 16 MiB of blocks. */
export type TestNvmeOptions = Partial<Omit<NvmeModelOptions, "copier">>;

export interface TestNvme {
  readonly port: FakePort;
  readonly model: NvmeModel;
  readonly host: RawNvmeHost;
}

/** A model behind a fake port with a bare host. The controller is not enabled yet. */
export function makeNvme(
  options: TestNvmeOptions = {},
  portOptions: FakePortOptions = {},
): TestNvme {
  const port = new FakePort(portOptions);
  const model = new NvmeModel({
    copier: port.copier,
    namespaces: [{ sizeBytes: 16 * 1024 * 1024 }],
    ...options,
  });
  return { port, model, host: new RawNvmeHost(model, port, 32, options.dstrd ?? 0) };
}

/** The 64 bytes of a command. */
export function encode(command: RawCommand, cid: number): Uint8Array {
  const bytes = new Uint8Array(spec.SQE_BYTES);
  const view = new DataView(bytes.buffer);
  const put64 = (at: number, value: number): void => {
    view.setUint32(at, value >>> 0, true);
    view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  };
  view.setUint32(0, spec.packCdw0(command.opcode, cid, command.psdt, command.fuse), true);
  view.setUint32(spec.SqeOffset.nsid, command.nsid ?? 0, true);
  put64(spec.SqeOffset.mptr, command.mptr ?? 0);
  put64(spec.SqeOffset.prp1, command.prp1 ?? 0);
  put64(spec.SqeOffset.prp2, command.prp2 ?? 0);
  if (command.sgl !== undefined) {
    const { address, length, type, subtype } = command.sgl;
    spec.setSgl(view, spec.SqeOffset.sgl1, address, length, type, subtype);
  }
  const dwords = ["cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15"] as const;
  dwords.forEach((name, i) => {
    view.setUint32(spec.SqeOffset.cdw10 + 4 * i, command[name] ?? 0, true);
  });
  return bytes;
}
