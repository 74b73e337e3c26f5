/**
 * A namespace of the target: a block queue under a namespace identifier, who may see it, and where
 * its I/O buffers should come from. What Linux' nvmet lets change only while it is disabled
 * (p2pmem) changes only then here too; ANA group, hosts, size and write protection change while it
 * is in use, through its {@link Subsystem}, which tells the controllers.
 *
 * Protection information: a block queue that is formatted with it protects each I/O itself (the
 * controller inserts on write, checks and strips on read; block room, IntegrityPolicy). Hosts see a
 * namespace without metadata. Nothing is dropped: an I/O that cannot be protected is refused.
 *
 * Leaves out: metadata that travels from the host, zoned namespaces.
 */

import { type BlockQueue, QueueFeature, SECTOR_BYTES } from "../block/index.ts";
import {
  formatBdf,
  type Inspectable,
  NVMET_ANA_GROUPS_MAX,
  NVMET_NAMESPACES_MAX,
  PeerlaneError,
  type Tree,
  UsageError,
} from "../core/index.ts";
import type { DmaDevice } from "../dma/index.ts";
import { CommandStats } from "./command-stats.hot.ts";
import { Exclusive } from "./exclusive.hot.ts";
import { formatP2pSetting, type P2pSetting } from "./p2p-config.ts";
import { type ReservationStore, Reservations } from "./reservations.ts";

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
  /** 16 bytes, big-endian. Default: the UUID. All zeros: none. */
  readonly nguid?: Uint8Array;
  /** 8 bytes, big-endian. Default: none. */
  readonly eui64?: Uint8Array;
  readonly readOnly?: boolean;
  /** ANA group, 1 to {@link NVMET_ANA_GROUPS_MAX}. Default 1. */
  readonly anaGroup?: number;
  /** The hosts that see it. Default: every host that may connect to the subsystem. */
  readonly hosts?: readonly string[];
  /** Keeps reservations through a loss of power. Default: they are lost with it. */
  readonly reservationStore?: ReservationStore;
}

export class Namespace implements Inspectable {
  readonly nsid: number;
  readonly queue: BlockQueue;
  readonly initiators: readonly DmaDevice[];
  readonly uuid: Uint8Array;
  /** Null: none. */
  readonly nguid: Uint8Array | null;
  readonly eui64: Uint8Array | null;
  readonly blockBytes: number;
  readonly sectorsPerBlock: number;
  /** Size in logical blocks. */
  blocks: number;
  /** Configured so: no host may change it. */
  readOnly: boolean;
  /** A host protected it (feature 84h). */
  writeProtected = false;
  anaGroup: number;
  /** Null: every host of the subsystem sees it. */
  hosts: ReadonlySet<string> | null;
  readonly reservations: Reservations;
  /** Who may submit bios now, and how many the block queue has. */
  readonly exclusive = new Exclusive();
  enabled = false;
  reads = 0;
  writes = 0;
  /** Its I/O commands. */
  readonly stats = new CommandStats();
  readBytes = 0;
  writtenBytes = 0;
  private setting: P2pSetting;

  constructor(subsystemNqn: string, options: NamespaceOptions) {
    const { nsid, queue } = options;
    checkNumber("bad-nsid", "a namespace identifier", nsid, NVMET_NAMESPACES_MAX);
    this.nsid = nsid;
    this.queue = queue;
    this.initiators = options.initiators;
    this.uuid = identifier("uuid", options.uuid ?? uuidFrom(subsystemNqn, nsid), 16);
    this.nguid = orNone(identifier("nguid", options.nguid ?? this.uuid, 16));
    this.eui64 = orNone(identifier("eui64", options.eui64 ?? new Uint8Array(8), 8));
    this.blockBytes = queue.limits.logicalBlockBytes;
    this.sectorsPerBlock = this.blockBytes / SECTOR_BYTES;
    this.blocks = this.capacityBlocks;
    this.readOnly = options.readOnly ?? false;
    this.anaGroup = options.anaGroup ?? 1;
    checkAnaGroup(this.anaGroup);
    this.hosts = options.hosts === undefined ? null : new Set(options.hosts);
    const place = `namespace ${nsid} of ${subsystemNqn}`;
    this.reservations = new Reservations(options.reservationStore ?? null, place);
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

  /** Bios of all controllers that the block queue has. */
  get inFlight(): number {
    return this.exclusive.inFlight;
  }

  /** Blocks that the block queue has now. */
  get capacityBlocks(): number {
    return Math.floor(this.queue.capacityBytes / this.blockBytes);
  }

  /** Writes are refused, for whatever reason. */
  get isWriteProtected(): boolean {
    return this.readOnly || this.writeProtected;
  }

  isVisibleTo(hostNqn: string): boolean {
    return this.hosts === null || this.hosts.has(hostNqn);
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
      writeProtected: this.writeProtected,
      anaGroup: this.anaGroup,
      hosts: this.hosts === null ? null : [...this.hosts],
      reservations: this.reservations.inspect(),
      inFlight: this.inFlight,
      reads: this.reads,
      writes: this.writes,
      readBytes: this.readBytes,
      writtenBytes: this.writtenBytes,
    };
  }
}

function checkNumber(code: string, what: string, value: number, max: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return;
  throw new UsageError(code, `${value} is not ${what}`, { remedy: `use 1 to ${max}` });
}

/** Throws {@link UsageError} `bad-ana-group`. */
export function checkAnaGroup(group: number): void {
  checkNumber("bad-ana-group", "an ANA group", group, NVMET_ANA_GROUPS_MAX);
}

function identifier(name: string, bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new UsageError("bad-identifier", `${name} has ${bytes.length} bytes`, {
    remedy: `give ${length} bytes`,
  });
}

const orNone = (bytes: Uint8Array): Uint8Array | null =>
  bytes.some((byte) => byte !== 0) ? bytes : null;

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
