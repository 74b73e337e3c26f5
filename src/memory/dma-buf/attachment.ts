/**
 * An attachment: one importer's tie to a dma-buf, and its mapping while it has one. What Linux has
 * as `struct dma_buf_attachment` (include/linux/dma-buf.h, Documentation/driver-api/dma-buf.rst).
 *
 * Invariants: at most one mapping at a time; a pin is given back once; after detach nothing works.
 */

import { formatBdf, hex, type Inspectable, PeerlaneError, type Tree } from "../../core/index.ts";
import { Direction, type DmaDevice } from "../../dma/index.ts";
import { AttachmentState } from "./dma-buf-memory.hot.ts";

/** Why an importer loses its mapping: for a while, or for good. */
export type InvalidationReason = "move" | "revoke";

/** How a driver takes part as importer. */
export interface DmaBufImporter {
  readonly device: DmaDevice;
  /**
   * It can use addresses of device memory (`allow_peer2peer`). Else the exporter must offer host
   * memory.
   */
  readonly peerToPeer: boolean;
  /**
   * Its mapping is about to be taken back (`invalidate_mappings`; `move_notify` before Linux 7.1).
   * Start nothing more on it; what it returns settles when the device uses the address no more.
   * Called under the buffer's lock: it must not wait for `map`, `pin` or another call of the
   * buffer. An importer without it is static: what it maps is pinned for as long as it is mapped.
   */
  invalidateMappings?(reason: InvalidationReason): void | Promise<void>;
}

/** A mapping that the exporter made. */
export interface DmaBufMapping {
  /** Of the buffer's first byte, for the importer's device; the rest follows. A page boundary. */
  readonly address: number;
  /** Takes it back. */
  release(): void | Promise<void>;
}

/** The buffer as its attachments see it. */
export interface AttachmentOwner {
  readonly name: string;
  mapFor(attachment: DmaBufAttachment, direction: Direction): Promise<void>;
  unmapFor(attachment: DmaBufAttachment): Promise<void>;
  pinFor(attachment: DmaBufAttachment): Promise<void>;
  unpinFor(attachment: DmaBufAttachment): Promise<void>;
  detach(attachment: DmaBufAttachment): Promise<void>;
}

export class DmaBufAttachment implements Inspectable {
  readonly buffer: AttachmentOwner;
  readonly importer: DmaBufImporter;
  /** What both sides agreed on: the importer gets addresses of device memory. */
  readonly peerToPeer: boolean;
  /** For the buffer and its memories. */
  readonly state: AttachmentState;
  /** For the buffer. */
  mapping: DmaBufMapping | null = null;
  pins = 0;
  detached = false;
  /** How often a move or a revoke took its mapping. */
  invalidations = 0;

  /** Use `DmaBuf.attach`. */
  constructor(buffer: AttachmentOwner, importer: DmaBufImporter, peerToPeer: boolean) {
    this.buffer = buffer;
    this.importer = importer;
    this.peerToPeer = peerToPeer;
    this.state = new AttachmentState(importer.device.id);
  }

  get isStatic(): boolean {
    return this.importer.invalidateMappings === undefined;
  }

  get isMapped(): boolean {
    return this.mapping !== null;
  }

  /** DMA address of the buffer's first byte. Throws `dma-buf-unmapped`. */
  get address(): number {
    if (this.mapping !== null) return this.mapping.address;
    throw new PeerlaneError("dma-buf-unmapped", `${this.buffer.name} is not mapped here`, {
      place: formatBdf(this.importer.device.bdf),
      remedy: "map the attachment; a move takes mappings back",
    });
  }

  /**
   * Maps the buffer for the importer's device; the exporter may move it first. Mapped already: as
   * it is. Throws `dma-buf-revoked`, `dma-buf-pinned` (it would have to move and cannot),
   * `dma-map`, `no-route`.
   */
  map(direction: Direction = Direction.both): Promise<void> {
    return this.buffer.mapFor(this, direction);
  }

  /** Gives the mapping back, after the last I/O on it. */
  unmap(): Promise<void> {
    return this.buffer.unmapFor(this);
  }

  /**
   * Keeps the buffer where every importer reaches it, until {@link unpin}. Throws as `map` does.
   */
  pin(): Promise<void> {
    return this.buffer.pinFor(this);
  }

  unpin(): Promise<void> {
    return this.buffer.unpinFor(this);
  }

  /** Ends the tie: unmaps and unpins what is left. Idempotent. */
  detach(): Promise<void> {
    return this.buffer.detach(this);
  }

  inspect(): Tree {
    return {
      importer: formatBdf(this.importer.device.bdf),
      peerToPeer: this.peerToPeer,
      static: this.isStatic,
      address: this.mapping === null ? null : hex(this.mapping.address),
      inFlight: this.state.inFlight,
      pins: this.pins,
      invalidations: this.invalidations,
    };
  }
}
