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

/** Passes everything on, until it is deaf. */
class DeafStream implements ByteStream {
  readonly inner: ByteStream;
  isDeaf = false;
  isMute = false;

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
    if (!this.isMute) return this.inner.write(bytes, written);
    written?.();
    return true;
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

  /** They read again. */
  heal(): void {
    for (const stream of this.streams) {
      stream.isDeaf = false;
      stream.resume();
    }
  }
}
