/**
 * One queue of the NVMe-oF host: builds command capsules, matches responses. Commands are
 * preallocated objects of the caller; the command identifier is the slot's index for good.
 *
 * Invariant: a command that was submitted ends once, in its owner's `commandDone`; when the
 * connection ends, all that are in flight end with `hostPathError`.
 *
 * Leaves out: retries and path selection (a layer above may do both).
 */

import { assert, NVMET_SGL_DESCRIPTORS_MAX } from "../../core/index.ts";
import {
  CqeOffset,
  NvmeStatus,
  NvmOpcode,
  Psdt,
  packCdw0,
  SqeOffset,
} from "../../spec/nvme/index.ts";
import { SGL_BYTES, SglId, setKeyedSgl, setOffsetSgl } from "../../spec/nvmf/index.ts";
import type { HostBuffer, HostChannel, ResponseSink } from "./transport.ts";

const COMMAND_BYTES = 64;
const FUA_BIT = 0x4000_0000;

/** Told when a command ended: `command.status` says how. */
export interface CommandOwner {
  commandDone(command: HostCommand): void;
}

/** What `submit` answers. */
export const SubmitStatus = { ok: 0, busy: 1, ended: 2 } as const;
export type SubmitStatus = (typeof SubmitStatus)[keyof typeof SubmitStatus];

/** One command. Preallocate, fill, submit, reuse when done. */
export class HostCommand {
  opcode: number = NvmOpcode.read;
  nsid = 0;
  /** CDW10 to CDW15. `setRange` fills those of read, write and their like. */
  readonly dwords = new Uint32Array(6);
  /** All 64 bytes of a fabrics command but opcode, flags, identifier and SGL; null: none. */
  raw: Uint8Array | null = null;
  dataBytes = 0;
  /** Registered memory that the data comes from or goes to, in order. */
  segmentCount = 0;
  readonly segmentAddresses = new Float64Array(NVMET_SGL_DESCRIPTORS_MAX);
  readonly segmentLengths = new Uint32Array(NVMET_SGL_DESCRIPTORS_MAX);
  readonly segmentKeys = new Uint32Array(NVMET_SGL_DESCRIPTORS_MAX);
  /** Data that goes in the capsule instead. */
  capsuleData: Uint8Array | null = null;
  /** Half of a fused pair: one of `Fuse`. Submit both halves one after the other. */
  fuse = 0;
  /** The target may invalidate the buffer's key. */
  invalidate = false;
  owner: CommandOwner;
  /** The owner's own number. */
  tag = 0;
  /** NVMe status, when done. */
  status = 0;
  result0 = 0;
  result1 = 0;
  isBusy = false;

  constructor(owner: CommandOwner) {
    this.owner = owner;
  }

  /** CDW10 to CDW12 of read, write, compare, write zeroes and verify. */
  setRange(lba: number, blocks: number, fua: boolean): void {
    const { dwords } = this;
    dwords[0] = lba >>> 0;
    dwords[1] = Math.floor(lba / 2 ** 32);
    dwords[2] = ((blocks - 1) | (fua ? FUA_BIT : 0)) >>> 0;
    dwords[3] = 0;
    dwords[4] = 0;
    dwords[5] = 0;
  }

  /** Makes the data one piece of a buffer; null: the command has none. */
  setData(buffer: HostBuffer | null, offset: number, bytes: number): void {
    this.segmentCount = 0;
    this.dataBytes = 0;
    this.capsuleData = null;
    if (buffer !== null) this.addData(buffer, offset, bytes);
  }

  /** Appends a piece. False: there are as many as a capsule may name. */
  addData(buffer: HostBuffer, offset: number, bytes: number): boolean {
    const at = this.segmentCount;
    if (at === NVMET_SGL_DESCRIPTORS_MAX) return false;
    this.segmentAddresses[at] = buffer.address + offset;
    this.segmentLengths[at] = bytes;
    this.segmentKeys[at] = buffer.key;
    this.segmentCount = at + 1;
    this.dataBytes += bytes;
    return true;
  }

  /** Sends the data in the capsule: copied from `data` at submit. */
  setCapsuleData(data: Uint8Array): void {
    this.segmentCount = 0;
    this.dataBytes = data.length;
    this.capsuleData = data;
  }
}

export class HostQueue implements ResponseSink {
  readonly qid: number;
  readonly depth: number;
  readonly channel: HostChannel;
  private readonly view: DataView;
  private readonly commands: (HostCommand | null)[];
  private readonly freeTags: Uint16Array;
  private freeCount: number;
  private needsKick = false;
  /** As the last response told. */
  sqHead = 0;
  submitted = 0;
  completed = 0;
  failed = 0;

  constructor(qid: number, depth: number, channel: HostChannel) {
    this.qid = qid;
    this.depth = depth;
    this.channel = channel;
    const { capsules } = channel;
    this.view = new DataView(capsules.buffer, capsules.byteOffset, capsules.byteLength);
    // One entry of a submission queue stays empty (Base 2.0, section 3.3.1.2.1.2).
    this.freeCount = depth - 1;
    this.commands = new Array(this.freeCount).fill(null);
    this.freeTags = new Uint16Array(this.freeCount);
    for (let i = 0; i < this.freeCount; i++) this.freeTags[i] = i;
  }

  /** `submit` finds a free slot. */
  get hasRoom(): boolean {
    return this.freeCount > 0;
  }

  /** The identifier of a command that is in flight; -1: it is not. For Abort. */
  cidOf(command: HostCommand): number {
    return this.commands.indexOf(command);
  }

  get inFlight(): number {
    return this.freeTags.length - this.freeCount;
  }

  /** Sends at the next `kick`. Returns a {@link SubmitStatus}. */
  submit(command: HostCommand): number {
    assert(!command.isBusy, "a command is submitted once at a time");
    const { channel } = this;
    if (channel.ended !== null) return SubmitStatus.ended;
    if (this.freeCount === 0) return SubmitStatus.busy;
    const cid = this.freeTags[this.freeCount - 1];
    const bytes = this.build(command, cid);
    if (!channel.send(cid, bytes)) return SubmitStatus.busy;
    this.freeCount--;
    this.commands[cid] = command;
    command.isBusy = true;
    this.submitted++;
    this.needsKick = true;
    return SubmitStatus.ok;
  }

  /** Writes the capsule. Returns its length. */
  private build(command: HostCommand, cid: number): number {
    const { view, channel } = this;
    const at = cid * channel.capsuleStride;
    const { dwords, raw } = command;
    if (raw !== null) {
      for (let i = 0; i < COMMAND_BYTES; i++) channel.capsules[at + i] = raw[i];
    } else {
      view.setUint32(at + SqeOffset.nsid, command.nsid, true);
      view.setUint32(at + SqeOffset.cdw2, 0, true);
      view.setUint32(at + SqeOffset.cdw3, 0, true);
      view.setUint32(at + SqeOffset.mptr, 0, true);
      view.setUint32(at + SqeOffset.mptr + 4, 0, true);
      for (let i = 0; i < 6; i++) view.setUint32(at + SqeOffset.cdw10 + 4 * i, dwords[i], true);
    }
    view.setUint32(at, packCdw0(command.opcode, cid, Psdt.sglMptrBuffer, command.fuse), true);
    return this.buildData(command, at);
  }

  private buildData(command: HostCommand, at: number): number {
    const { view, channel } = this;
    const { capsuleData, segmentCount, dataBytes } = command;
    const sgl = at + SqeOffset.sgl1;
    if (capsuleData !== null) {
      assert(dataBytes <= channel.inCapsuleBytes, "in-capsule data fits the capsule");
      channel.capsules.set(capsuleData, at + COMMAND_BYTES);
      setOffsetSgl(view, sgl, 0, dataBytes, SglId.offsetData);
      return COMMAND_BYTES + dataBytes;
    }
    if (segmentCount === 0) {
      for (let i = 0; i < SGL_BYTES; i += 4) view.setUint32(sgl + i, 0, true);
      return COMMAND_BYTES;
    }
    if (segmentCount === 1) {
      this.setKeyed(command, 0, sgl);
      return COMMAND_BYTES;
    }
    const listBytes = segmentCount * SGL_BYTES;
    assert(listBytes <= channel.inCapsuleBytes, "a list of segments fits the capsule");
    setOffsetSgl(view, sgl, 0, listBytes, SglId.offsetLastSegment);
    for (let i = 0; i < segmentCount; i++) {
      this.setKeyed(command, i, at + COMMAND_BYTES + i * SGL_BYTES);
    }
    return COMMAND_BYTES + listBytes;
  }

  private setKeyed(command: HostCommand, i: number, at: number): void {
    const address = command.segmentAddresses[i];
    const length = command.segmentLengths[i];
    setKeyedSgl(this.view, at, address, length, command.segmentKeys[i], command.invalidate);
  }

  kick(): void {
    if (!this.needsKick) return;
    this.needsKick = false;
    this.channel.kick();
  }

  response(view: DataView, at: number): void {
    const cid = view.getUint16(at + CqeOffset.cid, true);
    const command = cid < this.commands.length ? this.commands[cid] : null;
    // A response to nothing: the target is broken, and nobody waits for it.
    if (command === null) {
      this.failed++;
      return;
    }
    this.sqHead = view.getUint16(at + CqeOffset.sqhd, true);
    command.result0 = view.getUint32(at + CqeOffset.dw0, true);
    command.result1 = view.getUint32(at + CqeOffset.dw1, true);
    this.finish(cid, command, view.getUint16(at + CqeOffset.status, true) >>> 1);
  }

  private finish(cid: number, command: HostCommand, status: number): void {
    this.commands[cid] = null;
    this.freeTags[this.freeCount++] = cid;
    command.isBusy = false;
    command.status = status;
    this.completed++;
    if (status !== NvmeStatus.success) this.failed++;
    command.owner.commandDone(command);
  }

  poll(): number {
    let done = this.channel.poll(this);
    if (this.channel.ended !== null && this.inFlight > 0) done += this.failAll();
    this.kick();
    return done;
  }

  /** The connection is gone: what is in flight will not be answered. */
  private failAll(): number {
    let done = 0;
    for (let cid = 0; cid < this.commands.length; cid++) {
      const command = this.commands[cid];
      if (command === null) continue;
      this.finish(cid, command, NvmeStatus.hostPathError);
      done++;
    }
    return done;
  }
}
