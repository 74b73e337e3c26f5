/**
 * A network whose streams can be made to read nothing any more, or to send nothing: hosts that ask
 * and never listen, or never do what they are asked for.
 */

import type {
  ByteStream,
  Network,
  StreamAddress,
  StreamEvents,
  StreamListener,
  TlsClient,
} from "../src/platform/index.ts";

const TICK_MS = 20;

/** Passes everything on, until it is deaf. */
class DeafStream implements ByteStream {
  readonly inner: ByteStream;
  isDeaf = false;
  isMute = false;
  private isHolding = false;
  private slow: { bytes: Uint8Array; written: (() => void) | undefined }[] = [];
  private timer: NodeJS.Timeout | null = null;

  constructor(inner: ByteStream) {
    this.inner = inner;
  }
  get peer(): string {
    return this.inner.peer;
  }
  get localAddress(): string {
    return this.inner.localAddress;
  }
  get localPort(): number {
    return this.inner.localPort;
  }
  get tlsIdentity(): string | null {
    return this.inner.tlsIdentity;
  }
  get pendingBytes(): number {
    return this.inner.pendingBytes;
  }
  start(events: StreamEvents): void {
    this.inner.start(events);
  }
  write(bytes: Uint8Array, written?: () => void): boolean {
    if (this.timer !== null || this.isHolding) {
      // A copy: it is sent long after the writer was told.
      this.slow.push({ bytes: bytes.slice(), written });
      return true;
    }
    if (!this.isMute) return this.inner.write(bytes, written);
    written?.();
    return true;
  }
  /** What is written waits until {@link release}. */
  hold(): void {
    this.isHolding = true;
  }
  release(): void {
    this.isHolding = false;
    for (const { bytes, written } of this.slow.splice(0)) this.inner.write(bytes, written);
  }
  throttle(bytesPerTick: number): void {
    this.timer = setInterval(() => {
      const first = this.slow[0];
      if (first === undefined) return;
      this.inner.write(first.bytes.slice(0, bytesPerTick));
      first.bytes = first.bytes.slice(bytesPerTick);
      if (first.bytes.length > 0) return;
      this.slow.shift();
      first.written?.();
    }, TICK_MS);
    this.timer.unref();
  }
  pause(): void {
    this.inner.pause();
  }
  resume(): void {
    if (!this.isDeaf) this.inner.resume();
  }
  end(): void {
    this.inner.end();
  }
  destroy(): void {
    this.inner.destroy();
  }
}

/** For connecting alone. */
export class DeafNetwork implements Network {
  readonly streams: DeafStream[] = [];
  private readonly inner: Network;

  constructor(inner: Network) {
    this.inner = inner;
  }

  listen(): Promise<StreamListener> {
    return Promise.reject(new Error("a deaf network only connects"));
  }

  async connect(to: StreamAddress, tls?: TlsClient): Promise<ByteStream> {
    const stream = new DeafStream(await this.inner.connect(to, tls));
    this.streams.push(stream);
    return stream;
  }

  /** From now on nothing is read from any of its streams. */
  deafen(): void {
    for (const stream of this.streams) {
      stream.isDeaf = true;
      stream.pause();
    }
  }

  /** From now on nothing that is written arrives. */
  mute(): void {
    for (const stream of this.streams) stream.isMute = true;
  }

  /** What is written waits, until {@link release}. */
  hold(): void {
    for (const stream of this.streams) stream.hold();
  }

  release(): void {
    for (const stream of this.streams) stream.release();
  }

  /** From now on so many bytes are written every 20 ms. */
  throttle(bytesPerTick: number): void {
    for (const stream of this.streams) stream.throttle(bytesPerTick);
  }

  /** They read again. */
  heal(): void {
    for (const stream of this.streams) {
      stream.isDeaf = false;
      stream.resume();
    }
  }
}
