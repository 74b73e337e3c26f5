/**
 * From a command's DPTR and MPTR to the runs of its buffers, by PRP or SGL as PSDT says (NVM
 * Express Base 2.0, figure "Common Command Format").
 */

import { NvmeStatus, Psdt, SGL_BYTES } from "../../../spec/nvme/index.ts";
import type { Command } from "./command.hot.ts";
import type { ControllerMemory } from "./controller-memory.hot.ts";
import { PrpWalker } from "./prp-walker.hot.ts";
import { SegmentList } from "./segment-list.hot.ts";
import { SglWalker } from "./sgl-walker.hot.ts";

const TWO_32 = 2 ** 32;

export class DataPointer {
  readonly data: SegmentList;
  readonly metadata: SegmentList;
  /** Page size that CC.MPS chose. */
  pageBytes = 4096;
  private readonly memory: ControllerMemory;
  private readonly sglSupported: boolean;
  private readonly prp: PrpWalker;
  private readonly sgl: SglWalker;
  private readonly descriptor = new Uint8Array(SGL_BYTES);
  private readonly descriptorView = new DataView(this.descriptor.buffer);

  constructor(memory: ControllerMemory, sglSupported: boolean) {
    this.memory = memory;
    this.sglSupported = sglSupported;
    this.data = new SegmentList(memory);
    this.metadata = new SegmentList(memory);
    this.prp = new PrpWalker(memory);
    this.sgl = new SglWalker(memory);
  }

  /** Fills `data` with the buffer of `length` bytes that DPTR describes. Returns an NVMe status. */
  mapData(command: Command, direction: number, length: number): number {
    const list = this.data;
    list.begin(direction);
    const psdt = command.psdt;
    if (psdt === Psdt.prp) {
      return this.prp.walk(list, command.prp1, command.prp2, length, this.pageBytes);
    }
    if (!this.sglSupported || psdt > Psdt.sglMptrSgl) return NvmeStatus.invalidField;
    return this.sgl.walk(
      list,
      direction,
      command.prp1,
      command.sglLength,
      command.sglType,
      length,
      NvmeStatus.dataSglLengthInvalid,
    );
  }

  /** Fills `metadata` with the buffer of `length` bytes that MPTR describes. */
  mapMetadata(command: Command, direction: number, length: number): number {
    const list = this.metadata;
    list.begin(direction);
    const mptr = command.mptr;
    if (command.psdt !== Psdt.sglMptrSgl) {
      if (command.psdt === Psdt.prp && (mptr & 3) !== 0) return NvmeStatus.invalidField;
      return list.addAddress(mptr, length);
    }
    if ((mptr & 7) !== 0) return NvmeStatus.invalidField;
    const status = this.memory.read(mptr, this.descriptor, 0, SGL_BYTES);
    if (status !== NvmeStatus.success) return status;
    const view = this.descriptorView;
    return this.sgl.walk(
      list,
      direction,
      view.getUint32(4, true) * TWO_32 + view.getUint32(0, true),
      view.getUint32(8, true),
      view.getUint32(12, true),
      length,
      NvmeStatus.metadataSglLengthInvalid,
    );
  }
}
