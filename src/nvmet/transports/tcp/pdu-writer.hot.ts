/**
 * Builds PDUs in a few large buffers that go to the socket as they are: everything of one poll in
 * one write, or in several that are large enough. A buffer is used again when all of it is in the
 * kernel, so memory is bounded however slow the peer reads: without room, `begin` says no and the
 * sender waits.
 *
 * Leaves out: handing payload to the socket without this copy (one copy per byte read).
 */

import type { MappedRegion } from "../../../backing/interface.ts";
import {
  assert,
  type Copier,
  crc32c,
  TCP_SEND_BUFFER_BYTES,
  TCP_SEND_BUFFERS_MAX,
} from "../../../core/index.ts";
import type { ByteStream } from "../../../platform/index.ts";
import {
  TCP_DIGEST_BYTES,
  TCP_HLEN,
  TCP_PDU_TYPES,
  TcpChOffset,
  TcpFlag,
} from "../../../spec/nvmf/index.ts";

/** A transfer's data is not cut smaller than this because a buffer ends. */
export const PIECE_BYTES_MIN = 4096;

/** One buffer; `at` is where the next PDU goes, from `sent` on it is not written yet. */
class SendBuffer {
  readonly bytes = new Uint8Array(TCP_SEND_BUFFER_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  at = 0;
  sent = 0;
  /** Writes that the kernel has not taken yet. */
  pending = 0;
  readonly written: () => void;

  constructor(written: () => void) {
    this.written = () => {
      this.pending--;
      written();
    };
  }
}

export class PduWriter {
  headerDigest = false;
  dataDigest = false;
  /** HPDA or CPDA that the receiver asked for. */
  pda = 0;
  /** Bytes given to the stream. */
  bytesOut = 0;
  /** PDUs that were built, by type. */
  readonly counts = new Float64Array(TCP_PDU_TYPES);
  /** Times that there was no room. */
  stalls = 0;
  /** Writes that were given to the stream, and those that it has taken. */
  private flushes = 0;
  taken = 0;
  /** Data bytes that were copied to where the socket takes them from. */
  copiedBytes = 0;
  private readonly stream: ByteStream;
  private readonly copier: Copier;
  private readonly written: () => void;
  /** There was no room: `wake` is called when there is some again. */
  private isWaiting = false;
  private readonly buffers: SendBuffer[] = [];
  private current: SendBuffer | null = null;
  private dataAt = 0;

  constructor(stream: ByteStream, copier: Copier, wake: () => void) {
    this.stream = stream;
    this.copier = copier;
    this.written = (): void => {
      this.taken++;
      if (!this.isWaiting) return;
      this.isWaiting = false;
      wake();
    };
  }

  /** The stream holds something that the peer has made no room for. */
  get isPending(): boolean {
    return this.flushes !== this.taken;
  }

  /** Bytes that were built and not given to the stream yet. */
  get unsentBytes(): number {
    const { current } = this;
    return current === null ? 0 : current.at - current.sent;
  }

  /** Bytes that one PDU may still take. 0: wait until the peer reads. */
  private room(wanted: number): number {
    const { current } = this;
    if (current !== null) {
      // All of it is in the kernel: begins again where the processor's cache has it.
      if (current.pending === 0 && current.sent === current.at) {
        current.at = 0;
        current.sent = 0;
      }
      if (current.bytes.length - current.at >= wanted) return current.bytes.length - current.at;
    }
    this.flush();
    this.current = this.unused();
    if (this.current !== null) return this.current.bytes.length;
    this.stalls++;
    this.isWaiting = true;
    return 0;
  }

  /** A buffer with nothing in it; null: there is none. */
  private unused(): SendBuffer | null {
    for (const buffer of this.buffers) {
      if (buffer.pending > 0) continue;
      buffer.at = 0;
      buffer.sent = 0;
      return buffer;
    }
    if (this.buffers.length === TCP_SEND_BUFFERS_MAX) return null;
    const made = new SendBuffer(this.written);
    this.buffers.push(made);
    return made;
  }

  /**
   * Begins a PDU with up to `dataBytes` of data. Returns how many data bytes it takes: fewer when
   * the buffer ends, but at least `least`; -1: no room now.
   */
  begin(type: number, flags: number, dataBytes: number, least: number): number {
    const hlen = TCP_HLEN[type];
    const digestBytes = this.headerDigest ? TCP_DIGEST_BYTES : 0;
    const unit = (this.pda + 1) * 4;
    const headerBytes = hlen + digestBytes;
    const pdo = dataBytes > 0 ? Math.ceil(headerBytes / unit) * unit : headerBytes;
    const overhead = pdo + (dataBytes > 0 && this.dataDigest ? TCP_DIGEST_BYTES : 0);
    const room = this.room(overhead + least);
    if (room === 0) return -1;
    let taken = Math.min(dataBytes, room - overhead);
    // All pieces but the last are whole blocks: none is sent half before and half after a write.
    if (taken < dataBytes) taken -= taken % PIECE_BYTES_MIN;
    const { view, at } = this.current as SendBuffer;
    // All lengths in a header are whole dwords; `fill` costs more than the few stores.
    for (let i = at; i < at + pdo; i += 4) view.setUint32(i, 0, true);
    let allFlags = flags;
    if (this.headerDigest) allFlags |= TcpFlag.hdgst;
    if (dataBytes > 0 && this.dataDigest) allFlags |= TcpFlag.ddgst;
    view.setUint8(at + TcpChOffset.TYPE, type);
    view.setUint8(at + TcpChOffset.FLAGS, allFlags);
    view.setUint8(at + TcpChOffset.HLEN, hlen);
    view.setUint8(at + TcpChOffset.PDO, dataBytes > 0 ? pdo : 0);
    view.setUint32(at + TcpChOffset.PLEN, overhead + taken, true);
    this.dataAt = at + pdo;
    return taken;
  }

  /** Where the header that was begun lies. */
  get view(): DataView {
    return (this.current as SendBuffer).view;
  }
  get at(): number {
    return (this.current as SendBuffer).at;
  }

  addFlags(flags: number): void {
    const at = this.at + TcpChOffset.FLAGS;
    this.view.setUint8(at, this.view.getUint8(at) | flags);
  }

  /** Appends data to the PDU that was begun. */
  put(source: Uint8Array, offset: number, length: number): void {
    this.copier.copy((this.current as SendBuffer).bytes, this.dataAt, source, offset, length);
    this.dataAt += length;
    this.copiedBytes += length;
  }

  /** The same from a device's memory. */
  putFrom(window: MappedRegion, offset: number, length: number): void {
    window.copyOut(offset, (this.current as SendBuffer).bytes, this.dataAt, length);
    this.dataAt += length;
    this.copiedBytes += length;
  }

  /** Ends the PDU: its header and data are written. */
  finish(dataBytes: number): void {
    const { current } = this;
    assert(current !== null, "a PDU was begun");
    const { bytes, view, at } = current;
    const hlen = view.getUint8(at + TcpChOffset.HLEN);
    if (this.headerDigest) view.setUint32(at + hlen, crc32c(bytes, at, hlen), true);
    if (dataBytes > 0 && this.dataDigest) {
      view.setUint32(this.dataAt, crc32c(bytes, this.dataAt - dataBytes, dataBytes), true);
      this.dataAt += TCP_DIGEST_BYTES;
    }
    this.counts[view.getUint8(at + TcpChOffset.TYPE)]++;
    current.at = this.dataAt;
  }

  /** Gives the socket what was built since the last time. */
  flush(): void {
    const { current } = this;
    if (current === null || current.sent === current.at) return;
    const bytes = current.bytes.subarray(current.sent, current.at);
    current.sent = current.at;
    this.bytesOut += bytes.length;
    current.pending++;
    this.flushes++;
    this.stream.write(bytes, current.written);
  }
}
