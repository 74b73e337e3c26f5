/**
 * A namespace: its store, its format, its identity. The format (LBA size, metadata, protection
 * information) can change by Format NVM; the store and the identity stay.
 *
 * Data is at block * LBA size in the store. Metadata of all blocks follows the data. Where the
 * format has protection information, its eight bytes are stored inverted, so that a block never
 * written or deallocated reads as all ones: application tag FFFFh turns its checks off, as NVM
 * Command Set 1.0, section 3.2.3.2.1 asks of deallocated blocks, at no cost in a sparse store.
 */

import {
  alignUp,
  isPowerOfTwo,
  type NamespaceStore,
  type Tree,
  UsageError,
} from "../../../core/index.ts";
import { PI_BYTES, PiType, piOffsetInMetadata } from "../../../spec/nvme/index.ts";

/** A supported LBA format. */
export interface LbaFormat {
  readonly lbaBytes: number;
  readonly metadataBytes: number;
}

/** In the order of Identify Namespace. */
export const LBA_FORMATS: readonly LbaFormat[] = [
  { lbaBytes: 512, metadataBytes: 0 },
  { lbaBytes: 4096, metadataBytes: 0 },
  { lbaBytes: 512, metadataBytes: 8 },
  { lbaBytes: 4096, metadataBytes: 8 },
  { lbaBytes: 512, metadataBytes: 64 },
  { lbaBytes: 4096, metadataBytes: 64 },
];

export interface NamespaceFormat {
  /** Index into {@link LBA_FORMATS}. */
  readonly formatIndex: number;
  /** Metadata follows each block's data in the buffer, instead of in one of its own. */
  readonly extended: boolean;
  /** Protection information type, 0 to 3. */
  readonly piType: number;
  /** Protection information is the first 8 bytes of metadata, instead of the last. */
  readonly piFirst: boolean;
}

export interface NamespaceIdentity {
  readonly nguid: Uint8Array;
  readonly eui64: Uint8Array;
  readonly uuid: Uint8Array;
}

const METADATA_ALIGNMENT = 4096;

export class Namespace {
  readonly nsid: number;
  readonly store: NamespaceStore;
  readonly identity: NamespaceIdentity;
  readonly readOnly: boolean;
  readonly shared: boolean;
  /** False: it was taken away; its place in the list waits for another. */
  isThere = true;
  formatIndex = 0;
  extended = false;
  piType: number = PiType.none;
  piFirst = false;
  lbaBytes = 512;
  metadataBytes = 0;
  /** Size in blocks. */
  blocks = 0;
  /** Offset in the store of the first block's metadata. */
  metadataBase = 0;
  /** Offset of protection information in one block's metadata. */
  piOffset = 0;

  constructor(
    nsid: number,
    store: NamespaceStore,
    format: NamespaceFormat,
    identity: NamespaceIdentity,
    options: { readOnly: boolean; shared: boolean },
  ) {
    this.nsid = nsid;
    this.store = store;
    this.identity = identity;
    this.readOnly = options.readOnly;
    this.shared = options.shared;
    this.setFormat(format);
  }

  /** Takes a checked format. What the blocks hold afterwards is the caller's business. */
  setFormat(format: NamespaceFormat): void {
    const { lbaBytes, metadataBytes } = LBA_FORMATS[format.formatIndex] as LbaFormat;
    this.formatIndex = format.formatIndex;
    this.extended = format.extended;
    this.piType = format.piType;
    this.piFirst = format.piFirst;
    this.lbaBytes = lbaBytes;
    this.metadataBytes = metadataBytes;
    this.blocks = Math.floor(this.store.capacityBytes / lbaBytes);
    this.metadataBase = alignUp(this.blocks * lbaBytes, METADATA_ALIGNMENT);
    this.piOffset = format.piType === 0 ? 0 : piOffsetInMetadata(metadataBytes, format.piFirst);
    if (this.blocks === 0) {
      throw new UsageError("nvme-namespace-size", "a namespace holds at least one block", {
        remedy: "give sizeBytes of at least lbaBytes",
        details: { nsid: this.nsid, capacityBytes: this.store.capacityBytes, lbaBytes },
      });
    }
  }

  /** Bytes per block in a data buffer. */
  get transferBytes(): number {
    return this.extended ? this.lbaBytes + this.metadataBytes : this.lbaBytes;
  }

  inspect(): Tree {
    return {
      nsid: this.nsid,
      store: this.store.inspect(),
      blocks: this.blocks,
      lbaBytes: this.lbaBytes,
      metadataBytes: this.metadataBytes,
      extended: this.extended,
      protection: this.piType,
      protectionFirst: this.piFirst,
      readOnly: this.readOnly,
    };
  }
}

/** Index of the LBA format with these sizes, or -1. */
export function findFormat(lbaBytes: number, metadataBytes: number): number {
  return LBA_FORMATS.findIndex(
    (format) => format.lbaBytes === lbaBytes && format.metadataBytes === metadataBytes,
  );
}

/** Why a format is not possible, or null. The same rules as Format NVM's. */
export function whyNotFormat(format: NamespaceFormat): string | null {
  const lba = LBA_FORMATS[format.formatIndex];
  if (lba === undefined) return "no such LBA format";
  if (!isPowerOfTwo(lba.lbaBytes)) return "an LBA size is a power of two";
  if (format.piType > PiType.type3) return "no such protection information type";
  if (format.piType !== 0 && lba.metadataBytes < PI_BYTES) {
    return "protection information needs at least 8 bytes of metadata";
  }
  if (format.extended && lba.metadataBytes === 0) return "an extended LBA needs metadata";
  return null;
}

/** FNV-1a over text: a stable identity for what has no other. */
function fnv(text: string, seed: number): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** NGUID, EUI64 and UUID (version 8) that only depend on the serial number and the NSID. */
export function deriveIdentity(serial: string, nsid: number): NamespaceIdentity {
  const bytes = (count: number, salt: number): Uint8Array =>
    Uint8Array.from({ length: count }, (_, i) => fnv(`${serial}/${nsid}/${i}`, salt) & 0xff);
  const uuid = bytes(16, 3);
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  return { nguid: bytes(16, 1), eui64: bytes(8, 2), uuid };
}
