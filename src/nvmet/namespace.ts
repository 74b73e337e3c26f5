/**
 * A namespace of the target: a block queue under a namespace identifier, and where its I/O buffers
 * should come from. Configuration changes only while it is disabled, as in Linux' nvmet.
 *
 * Protection information: a block queue that is formatted with it protects each I/O itself (the
 * controller inserts on write, checks and strips on read; block room, IntegrityPolicy). Hosts see a
 * namespace without metadata. Nothing is dropped: an I/O that cannot be protected is refused.
 *
 * Leaves out: metadata that travels from the host, zoned namespaces, file-backed namespaces (any
 * `BlockQueue` will do).
 */

import { type BlockQueue, QueueFeature, SECTOR_BYTES } from "../block/index.ts";
import {
  formatBdf,
  type Inspectable,
  NVMET_NAMESPACES_MAX,
  PeerlaneError,
  type Tree,
  UsageError,
} from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import { formatP2pSetting, type P2pSetting } from "./p2p-config.ts";

export interface NamespaceOptions {
  /** 1 to {@link NVMET_NAMESPACES_MAX}. */
  readonly nsid: number;
  readonly queue: BlockQueue;
  /**
   * The devices that issue the DMA of this queue: one for a disk, one per leg for a stacked queue.
   * Empty only for queues whose data the CPU moves.
   */
  readonly initiators: readonly DmaDevice[];
  /** Default: off. */
  readonly p2pmem?: P2pSetting;
  /** 16 bytes. Default: made from the subsystem's name and the NSID. */
  readonly uuid?: Uint8Array;
  readonly readOnly?: boolean;
}

export class Namespace implements Inspectable {
  readonly nsid: number;
  readonly queue: BlockQueue;
  readonly initiators: readonly DmaDevice[];
  readonly uuid: Uint8Array;
  readonly blockBytes: number;
  readonly sectorsPerBlock: number;
  /** Size in logical blocks. */
  readonly blocks: number;
  readonly readOnly: boolean;
  enabled = false;
  reads = 0;
  writes = 0;
  readBytes = 0;
  writtenBytes = 0;
  private setting: P2pSetting;

  constructor(subsystemNqn: string, options: NamespaceOptions) {
    const { nsid, queue } = options;
    if (!(Number.isInteger(nsid) && nsid >= 1 && nsid <= NVMET_NAMESPACES_MAX)) {
      throw new UsageError("bad-nsid", `${nsid} is not a namespace identifier`, {
        remedy: `use 1 to ${NVMET_NAMESPACES_MAX}`,
      });
    }
    this.nsid = nsid;
    this.queue = queue;
    this.initiators = options.initiators;
    this.uuid = options.uuid ?? uuidFrom(subsystemNqn, nsid);
    this.blockBytes = queue.limits.logicalBlockBytes;
    this.sectorsPerBlock = this.blockBytes / SECTOR_BYTES;
    this.blocks = Math.floor(queue.capacityBytes / this.blockBytes);
    this.readOnly = options.readOnly ?? false;
    this.setting = options.p2pmem ?? { kind: "off" };
  }

  get p2pmem(): P2pSetting {
    return this.setting;
  }

  /** Throws `namespace-enabled` while it is in use. */
  set p2pmem(setting: P2pSetting) {
    if (this.enabled) {
      throw new PeerlaneError("namespace-enabled", "p2pmem changes only while it is disabled", {
        place: `namespace ${this.nsid}`,
        remedy: "disable the namespace, set p2pmem, enable it again",
      });
    }
    this.setting = setting;
  }

  /** True when its queue takes memory that the CPU cannot reach. */
  get takesPeerMemory(): boolean {
    return (this.queue.features & QueueFeature.dmaDirect) !== 0 && this.initiators.length > 0;
  }

  inspect(): Tree {
    return {
      nsid: this.nsid,
      queue: this.queue.name,
      initiators: this.initiators.map(({ bdf }) => formatBdf(bdf)),
      blocks: this.blocks,
      blockBytes: this.blockBytes,
      p2pmem: formatP2pSetting(this.setting),
      enabled: this.enabled,
      readOnly: this.readOnly,
      reads: this.reads,
      writes: this.writes,
      readBytes: this.readBytes,
      writtenBytes: this.writtenBytes,
    };
  }
}

/**
 * A UUID of version 8 (RFC 9562: made by the application) that is the same for the same name:
 * FNV-1a over name and NSID, four times with different starts.
 */
function uuidFrom(name: string, nsid: number): Uint8Array {
  const uuid = new Uint8Array(16);
  const text = new TextEncoder().encode(`${name}/${nsid}`);
  for (let word = 0; word < 4; word++) {
    let hash = (0x811c9dc5 + word * 0x9e3779b9) >>> 0;
    for (const byte of text) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    new DataView(uuid.buffer).setUint32(word * 4, hash);
  }
  uuid[6] = (uuid[6] & 0x0f) | 0x80;
  uuid[8] = (uuid[8] & 0x3f) | 0x80;
  return uuid;
}
