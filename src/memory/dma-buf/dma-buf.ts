/**
 * A dma-buf: memory that one driver (the exporter) lends to others (importers), each by a mapping
 * of its own, with the exporter's right to move it and to take it back. After the Linux framework
 * of the same name: drivers/dma-buf/dma-buf.c, Documentation/driver-api/dma-buf.rst; revoking as
 * described with dma_buf_attach_revocable (2026).
 *
 *     live --move--> moving --> live          (importers map again)
 *     live --revoke--> revoked                (for good)
 *
 * How a mapping is taken back, in a move and in a revoke alike: the gate of every attachment closes
 * (no new I/O), its importer is told and settles when its device has stopped, I/O in flight on
 * memories is waited for, the mapping is released. Then the bytes move, or belong to the exporter
 * alone.
 *
 * Invariants: calls take turns (Linux: the reservation lock); a pinned buffer does not move, but it
 * can be revoked; every mapping was made after the last move.
 *
 * Stricter than Linux: a move waits until mappings are gone, not only for their fences, so an old
 * address reaches nothing. Leaves out: fences and implicit synchronisation, CPU access, mmap,
 * mappings of several ranges (ours are contiguous).
 */

import { assert, formatBdf, type Inspectable, PeerlaneError, type Tree } from "../../core/index.ts";
import type { Direction, DmaDevice } from "../../dma/index.ts";
import {
  type AttachmentOwner,
  DmaBufAttachment,
  type DmaBufImporter,
  type DmaBufMapping,
  type InvalidationReason,
} from "./attachment.ts";
import { DmaBufGate, DmaBufMemory } from "./dma-buf-memory.hot.ts";

/** What the owner of the memory does. Called under the buffer's lock, except `attach`. */
export interface DmaBufExporter extends Inspectable {
  readonly name: string;
  readonly sizeBytes: number;
  /** Must be able to take the memory back soon: static importers are refused. */
  readonly needsRevoke: boolean;
  /**
   * Whether this importer will get addresses of device memory. Throws where it can be given neither
   * those nor host memory.
   */
  attach(importer: DmaBufImporter): boolean;
  /**
   * Puts the buffer where this attachment reaches it, with {@link DmaBuf.moveLocked} if need be.
   */
  prepare(attachment: DmaBufAttachment): Promise<void>;
  map(attachment: DmaBufAttachment, direction: Direction): DmaBufMapping;
  /** Puts the buffer where all of its attachments reach it. Moves are over until the unpin. */
  pin(attachments: readonly DmaBufAttachment[]): Promise<void>;
}

export type DmaBufState = "live" | "moving" | "revoked";

export class DmaBuf implements AttachmentOwner, Inspectable {
  readonly name: string;
  readonly sizeBytes: number;
  readonly exporter: DmaBufExporter;
  moves = 0;
  private readonly gate = new DmaBufGate();
  private readonly attachments = new Set<DmaBufAttachment>();
  private readonly listeners: ((reason: string) => void)[] = [];
  private pins = 0;
  private moving = false;
  private revoking: Promise<void> | null = null;
  private takenBack = false;
  private last: Promise<unknown> = Promise.resolve();

  constructor(exporter: DmaBufExporter) {
    this.exporter = exporter;
    this.name = exporter.name;
    this.sizeBytes = exporter.sizeBytes;
  }

  get state(): DmaBufState {
    if (this.gate.revoked) return "revoked";
    return this.moving ? "moving" : "live";
  }

  /** True once a revoke is over: the memory is its exporter's alone. */
  get isTakenBack(): boolean {
    return this.takenBack;
  }

  get isPinned(): boolean {
    return this.pins > 0;
  }

  /**
   * Ties an importer to the buffer. Throws `dma-buf-revoked`, `dma-buf-attach` when the device can
   * be given no address, or is a static importer of a buffer that must be revocable.
   */
  attach(importer: DmaBufImporter): DmaBufAttachment {
    if (this.gate.revoked) throw this.revokedError();
    const { exporter } = this;
    if (exporter.needsRevoke && importer.invalidateMappings === undefined) {
      throw new PeerlaneError("dma-buf-attach", `${this.name} must be revocable`, {
        place: formatBdf(importer.device.bdf),
        remedy: "import it with a driver that handles invalidated mappings",
      });
    }
    const peerToPeer = exporter.attach(importer) && importer.peerToPeer;
    const attachment = new DmaBufAttachment(this, importer, peerToPeer);
    this.attachments.add(attachment);
    return attachment;
  }

  /**
   * I/O memory over attachments of different devices of this buffer, for I/O that goes through
   * `begin` and `end`. Map the attachments first, and again after a move.
   */
  memory(attachments: readonly DmaBufAttachment[]): DmaBufMemory {
    for (const { buffer } of attachments) assert(buffer === this, "attachments are of this buffer");
    const states = attachments.map(({ state }) => state);
    const devices = new Set(states.map(({ initiator }) => initiator));
    assert(states.length > 0 && devices.size === states.length, "a memory has distinct importers");
    return new DmaBufMemory(this.name, this.sizeBytes, this.gate, states, (listener) =>
      this.listeners.push(listener),
    );
  }

  /** Settles when what was asked for so far is done. */
  settled(): Promise<void> {
    return this.locked(async () => undefined);
  }

  /**
   * Takes all mappings back, then lets the exporter move the bytes. Throws `dma-buf-pinned`,
   * `dma-buf-revoked`. Importers map again when they need it.
   */
  move(relocate: () => Promise<void>): Promise<void> {
    return this.locked(() => this.moveLocked(relocate));
  }

  /** The same for an exporter that is called under the lock. */
  async moveLocked(relocate: () => Promise<void>): Promise<void> {
    this.checkLive();
    if (this.pins > 0) {
      throw new PeerlaneError("dma-buf-pinned", `${this.name} is pinned and cannot move`, {
        remedy: "unpin it, or unmap it where a static importer has it mapped",
        details: { pins: this.pins, importers: this.importers() },
      });
    }
    this.moving = true;
    try {
      await this.takeBack("move");
      await relocate();
      this.moves++;
    } finally {
      this.moving = false;
    }
  }

  /**
   * Takes the memory back for good, pinned or not. Resolves when no importer has a mapping. The
   * same promise for every caller.
   */
  revoke(reason: string): Promise<void> {
    // From now on nothing maps and no attachment is made, also while others are before us.
    this.gate.revoked = true;
    this.revoking ??= this.locked(async () => {
      for (const listener of this.listeners.splice(0)) listener(reason);
      await this.takeBack("revoke");
      this.pins = 0;
      for (const attachment of this.attachments) attachment.pins = 0;
      this.takenBack = true;
    });
    return this.revoking;
  }

  // --- what attachments ask

  mapFor(attachment: DmaBufAttachment, direction: Direction): Promise<void> {
    return this.locked(async () => {
      this.checkAttached(attachment);
      if (attachment.mapping !== null) return;
      if (attachment.isStatic) await this.pinLocked(attachment);
      try {
        await this.exporter.prepare(attachment);
        this.checkLive();
        const mapping = this.exporter.map(attachment, direction);
        attachment.mapping = mapping;
        attachment.state.base = mapping.address;
        attachment.state.isOpen = true;
      } catch (error) {
        if (attachment.isStatic) this.unpinLocked(attachment);
        throw error;
      }
    });
  }

  unmapFor(attachment: DmaBufAttachment): Promise<void> {
    return this.locked(() => this.unmapLocked(attachment));
  }

  pinFor(attachment: DmaBufAttachment): Promise<void> {
    return this.locked(async () => {
      this.checkAttached(attachment);
      await this.pinLocked(attachment);
    });
  }

  unpinFor(attachment: DmaBufAttachment): Promise<void> {
    return this.locked(async () => {
      assert(attachment.pins > 0 || this.gate.revoked, "a pin is given back once");
      if (attachment.pins > 0) this.unpinLocked(attachment);
    });
  }

  detach(attachment: DmaBufAttachment): Promise<void> {
    return this.locked(async () => {
      if (attachment.detached) return;
      await this.unmapLocked(attachment);
      while (attachment.pins > 0) this.unpinLocked(attachment);
      attachment.detached = true;
      this.attachments.delete(attachment);
    });
  }

  private async pinLocked(attachment: DmaBufAttachment): Promise<void> {
    this.checkLive();
    if (this.pins === 0) await this.exporter.pin([...this.attachments]);
    this.pins++;
    attachment.pins++;
  }

  private unpinLocked(attachment: DmaBufAttachment): void {
    if (attachment.pins === 0) return;
    attachment.pins--;
    this.pins--;
  }

  private async unmapLocked(attachment: DmaBufAttachment): Promise<void> {
    if (attachment.mapping === null) return;
    await this.release(attachment);
    if (attachment.isStatic) this.unpinLocked(attachment);
  }

  /** Every mapping, after its importer stopped. */
  private async takeBack(reason: InvalidationReason): Promise<void> {
    const mapped = [...this.attachments].filter(({ isMapped }) => isMapped);
    // All gates first, so that no importer goes on while another is being waited for.
    for (const { state } of mapped) state.isOpen = false;
    const failures: unknown[] = [];
    for (const attachment of mapped) {
      attachment.invalidations++;
      try {
        await attachment.importer.invalidateMappings?.(reason);
        await this.release(attachment);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 0) return;
    // Its device may still use the address: the memory must not be given to anybody else.
    throw new PeerlaneError("dma-buf-importer", `an importer of ${this.name} did not stop`, {
      remedy: "reset the importer's device; until then the memory stays as it is",
      details: { reason, importers: this.importers() },
      cause: failures[0],
    });
  }

  private async release(attachment: DmaBufAttachment): Promise<void> {
    const { state, mapping } = attachment;
    await new Promise<void>((resolve) => state.drain(resolve));
    state.base = -1;
    attachment.mapping = null;
    await mapping?.release();
  }

  private checkLive(): void {
    if (this.gate.revoked) throw this.revokedError();
  }

  private checkAttached(attachment: DmaBufAttachment): void {
    this.checkLive();
    assert(!attachment.detached, "an attachment is used before it is detached");
  }

  private revokedError(): PeerlaneError {
    return new PeerlaneError("dma-buf-revoked", `${this.name} was revoked by its exporter`, {
      remedy: "ask the exporter for another buffer",
    });
  }

  /** One call at a time, in the order of calling. */
  private locked<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.last.then(work);
    this.last = turn.catch(() => undefined);
    return turn;
  }

  private importers(): string[] {
    return [...this.attachments].map(({ importer }) => formatBdf(importer.device.bdf));
  }

  inspect(): Tree {
    return {
      name: this.name,
      sizeBytes: this.sizeBytes,
      state: this.state,
      pins: this.pins,
      moves: this.moves,
      exporter: this.exporter.inspect(),
      attachments: [...this.attachments].map((attachment) => attachment.inspect()),
    };
  }
}

/** An importer that handles nothing: its mappings are pinned. */
export function staticImporter(device: DmaDevice, peerToPeer = true): DmaBufImporter {
  return { device, peerToPeer };
}
