/**
 * A dma-buf as a memory region: what ibv_reg_dmabuf_mr(3) makes. The region keeps its keys, its
 * addresses and its rights while the buffer moves under it: before a move the device stops using
 * the old translation (it asks peers to wait, by RNR NAK, and holds its own work back), and it gets
 * the new one as soon as the buffer is mapped again. A revoke ends the region: peers get a remote
 * access error, own work a local protection error.
 *
 * Invariants: the device never translates to a mapping that was taken back; a region that does not
 * come to rest in time (a peer stopped in the middle of a message) is made invalid instead, which
 * costs its connections, not its memory.
 */

import {
  formatBdf,
  PAGE_SIZE,
  PeerlaneError,
  setU64LE,
  type Tree,
  viewOf,
} from "../../core/index.ts";
import { Direction } from "../../dma/index.ts";
import type { DmaBuf, DmaBufAttachment, InvalidationReason } from "../../memory/index.ts";
import {
  Access,
  CREATE_MR_IN,
  MAILBOX_RANGES,
  MODIFY_MR_IN,
  MrState,
  Range,
  RnicCommand,
  RnicCommandStatus,
} from "../../spec/rdma/index.ts";
import type { DmaBufMrOptions } from "../verbs.ts";
import { type RegionPd, RnicRegion } from "./region.ts";

/** How often, and how many nanoseconds apart, a busy region is asked to come to rest. */
const SUSPEND_TRIES_MAX = 1000;
const SUSPEND_RETRY_NS = 10_000;

export class RnicDmaBufMr extends RnicRegion {
  readonly buffer: DmaBuf;
  /** How often its translation changed. */
  remaps = 0;
  private readonly offset: number;
  private readonly pinned: boolean;
  private attachment: DmaBufAttachment | null = null;
  /** Counts invalidations. */
  private generation = 0;

  private constructor(pd: RegionPd, buffer: DmaBuf, options: DmaBufMrOptions) {
    super(pd, options.iova, options.length, options.access);
    this.buffer = buffer;
    this.offset = options.offset;
    this.pinned = options.pinned ?? false;
  }

  /** Attaches, maps and registers. Throws `mr-dma-buf`, what attach and map throw, `rdma-...`. */
  static async register(
    pd: RegionPd,
    buffer: DmaBuf,
    options: DmaBufMrOptions,
  ): Promise<RnicDmaBufMr> {
    checkOptions(pd, buffer, options);
    const region = new RnicDmaBufMr(pd, buffer, options);
    const attachment = buffer.attach({
      device: pd.dma,
      peerToPeer: true,
      invalidateMappings: (reason) => region.invalidate(reason),
    });
    region.attachment = attachment;
    try {
      if (region.pinned) await attachment.pin();
      await region.create(attachment);
      return region;
    } catch (error) {
      await attachment.detach();
      throw error;
    }
  }

  protected async letGo(): Promise<void> {
    await this.attachment?.detach();
  }

  private async create(attachment: DmaBufAttachment): Promise<void> {
    const { pd, access, address, length } = this;
    const direction = (access & Access.localWrite) === 0 ? Direction.fromMemory : Direction.both;
    await attachment.map(direction);
    const input = {
      pd: pd.number,
      access,
      address,
      length,
      rangeCount: 1,
      fastRegister: 0,
      ranges: pd.control.mailboxAddress + MAILBOX_RANGES,
    };
    this.lkey = await pd.control.create(RnicCommand.createMr, CREATE_MR_IN, input, () =>
      this.writeRange(attachment),
    );
    this.valid = true;
  }

  private writeRange(attachment: DmaBufAttachment): void {
    const view = viewOf(this.pd.control.mailboxBytes);
    setU64LE(view, MAILBOX_RANGES + Range.address, attachment.address + this.offset);
    setU64LE(view, MAILBOX_RANGES + Range.length, this.length);
  }

  /** Settles when the device uses the old translation no more. */
  private async invalidate(reason: InvalidationReason): Promise<void> {
    // Before its creation and after its end the device knows nothing of the mapping.
    if (this.lkey === 0 || this.isEnding) return;
    this.valid = false;
    this.generation++;
    if (reason === "revoke" || !(await this.suspend())) {
      await this.setState(MrState.invalid);
      return;
    }
    // The mapping is gone when the move is over; only then it can be made anew.
    this.remap().catch(() => this.lost());
  }

  /** False when the region does not come to rest. */
  private async suspend(): Promise<boolean> {
    for (let i = 0; i < SUSPEND_TRIES_MAX; i++) {
      try {
        await this.setState(MrState.suspended);
        return true;
      } catch (error) {
        const busy =
          error instanceof PeerlaneError && error.details["status"] === RnicCommandStatus.busy;
        if (!busy) throw error;
      }
      await this.pd.dma.fn.machine.clock.sleep(SUSPEND_RETRY_NS);
    }
    return false;
  }

  private async remap(): Promise<void> {
    const { attachment, generation } = this;
    if (attachment === null) return;
    await attachment.map();
    // Another move began meanwhile: it remaps when it is over. Else the command below is before any
    // that suspends the region again, since commands take turns.
    if (this.isEnding || generation !== this.generation) return;
    await this.setState(MrState.valid, attachment);
    this.remaps++;
    if (generation === this.generation) this.valid = true;
  }

  /** The buffer went away while it was suspended, or the device did. */
  private lost(): void {
    if (this.isEnding) return;
    this.setState(MrState.invalid).catch(() => this.reportFatal());
  }

  private async setState(state: number, attachment: DmaBufAttachment | null = null): Promise<void> {
    const { control } = this.pd;
    const input = {
      key: this.lkey,
      state,
      rangeCount: 1,
      length: this.length,
      ranges: control.mailboxAddress + MAILBOX_RANGES,
    };
    await control.command(RnicCommand.modifyMr, MODIFY_MR_IN, input, null, () => {
      if (attachment !== null) this.writeRange(attachment);
    });
  }

  override inspect(): Tree {
    return {
      ...super.inspect(),
      remaps: this.remaps,
      dmaBuf: this.buffer.name,
      attachment: this.attachment?.inspect() ?? null,
    };
  }
}

function checkOptions(pd: RegionPd, buffer: DmaBuf, options: DmaBufMrOptions): void {
  const { offset, length, iova } = options;
  const inside = offset >= 0 && length > 0 && offset + length <= buffer.sizeBytes;
  if (inside && iova >= 0 && iova % PAGE_SIZE === offset % PAGE_SIZE) return;
  throw new PeerlaneError("mr-dma-buf", "this part of the dma-buf cannot be a memory region", {
    place: formatBdf(pd.dma.bdf),
    remedy: inside
      ? "choose an iova with the page offset that `offset` has (ibv_reg_dmabuf_mr asks for it)"
      : `stay within its ${buffer.sizeBytes} bytes`,
    details: { offset, length, iova, sizeBytes: buffer.sizeBytes },
  });
}
