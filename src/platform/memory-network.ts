/**
 * A network inside this process, for tests: bytes move when it is polled, so a run is a function of
 * its seed. Streams have the back-pressure of real ones: a bound on what is under way, reading that
 * pauses. Pieces may be cut anywhere, as TCP does. Who connected gets bytes lent, as on real
 * sockets: they are spoilt after the call.
 *
 * TLS is played: who listens must have the same key for the identity; nothing is encrypted.
 *
 * Leaves out: loss (TCP has none), latency.
 */
import { PeerlaneError, type Poller } from "../core/index.ts";
import { sameSecret } from "./crypto.ts";
import {
  type ByteStream,
  CLOSED_BY_PEER,
  formatAddress,
  type Network,
  type StreamAddress,
  type StreamEvents,
  type StreamListener,
} from "./sockets.ts";
import type { TlsClient, TlsServer } from "./tls.ts";

export interface MemoryNetworkOptions {
  /** Bytes of the next piece that arrives, given how many there are. Default: all of them. */
  readonly cut?: (available: number) => number;
  /** Bytes under way per direction from which `write` says false. Default 256 KiB. */
  readonly windowBytes?: number;
}

const WINDOW_BYTES = 256 * 1024;
/** What lent bytes turn to. */
const SPOILT = 0xdb;

interface Piece {
  readonly bytes: Uint8Array;
  at: number;
  readonly written: (() => void) | undefined;
}

class MemoryStream implements ByteStream {
  readonly peer: string;
  readonly localAddress: string;
  readonly localPort: number;
  tlsIdentity: string | null = null;
  readonly #options: MemoryNetworkOptions;
  #other: MemoryStream | null = null;
  #events: StreamEvents | null = null;
  /** What the other end wrote and this one has not got yet. */
  readonly #inbound: Piece[] = [];
  #inboundBytes = 0;
  #isPaused = false;
  #needsDrain = false;
  #endsAfterInbound: string | null = null;
  #isOver = false;
  /** It connected: its reader gets bytes lent. */
  #lends = false;

  constructor(name: string, peer: string, options: MemoryNetworkOptions) {
    this.peer = peer;
    this.localAddress = name.replace(/:\d+$/, "");
    this.localPort = Number(/\d+$/.exec(name)?.[0] ?? 0);
    this.#options = options;
  }

  static pair(names: readonly [string, string], options: MemoryNetworkOptions): MemoryStream[] {
    const first = new MemoryStream(names[0], names[1], options);
    const second = new MemoryStream(names[1], names[0], options);
    first.#other = second;
    second.#other = first;
    first.#lends = true;
    return [first, second];
  }

  get pendingBytes(): number {
    return this.#other === null ? 0 : this.#other.#inboundBytes;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  start(events: StreamEvents): void {
    this.#events = events;
  }

  write(bytes: Uint8Array, written?: () => void): boolean {
    const other = this.#other;
    if (other === null || this.#isOver || other.#endsAfterInbound !== null) return false;
    other.#inbound.push({ bytes, at: 0, written });
    other.#inboundBytes += bytes.length;
    const mayGoOn = other.#inboundBytes < (this.#options.windowBytes ?? WINDOW_BYTES);
    if (!mayGoOn) this.#needsDrain = true;
    return mayGoOn;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
  }

  end(): void {
    const other = this.#other;
    if (other !== null) other.#endsAfterInbound ??= CLOSED_BY_PEER;
    // Its own reader hears of it at the next poll; what arrives meanwhile is dropped.
    this.#inbound.length = 0;
    this.#inboundBytes = 0;
    this.#endsAfterInbound ??= "closed";
  }

  destroy(): void {
    this.end();
    const other = this.#other;
    if (other === null) return;
    other.#inbound.length = 0;
    other.#inboundBytes = 0;
  }

  /** Delivers one piece, or the end. Returns how many things happened. */
  step(): number {
    const events = this.#events;
    if (this.#isOver || events === null) return 0;
    const piece = this.#inbound[0];
    if (piece === undefined) {
      if (this.#endsAfterInbound === null) return 0;
      this.#isOver = true;
      events.onEnd(this.#endsAfterInbound);
      return 1;
    }
    if (this.#isPaused) return 0;
    const available = piece.bytes.length - piece.at;
    const asked = this.#options.cut?.(available) ?? available;
    const length = Math.max(1, Math.min(available, asked));
    // A copy: the writer may use its buffer again as soon as it is told.
    const bytes = piece.bytes.slice(piece.at, piece.at + length);
    piece.at += length;
    this.#inboundBytes -= length;
    if (piece.at === piece.bytes.length) {
      this.#inbound.shift();
      piece.written?.();
    }
    events.onData(bytes);
    if (this.#lends) bytes.fill(SPOILT);
    this.#drainOther();
    return 1;
  }

  #drainOther(): void {
    const other = this.#other;
    if (other === null || !other.#needsDrain || this.#inbound.length > 0) return;
    other.#needsDrain = false;
    other.#events?.onDrain();
  }
}

interface Listener {
  readonly onStream: (stream: ByteStream) => void;
  readonly tls: TlsServer | null;
}

/** Why a handshake fails; null: it does not. */
function handshakeProblem(server: TlsServer | null, client: TlsClient | null): string | null {
  if (client === null) return server?.required === true ? "no TLS, which is required" : null;
  const key = server?.keyFor(client.identity) ?? null;
  if (key === null) return "no key for this identity";
  return sameSecret(key, client.key) ? null : "the keys differ";
}

export class MemoryNetwork implements Network, Poller {
  readonly #options: MemoryNetworkOptions;
  readonly #listeners = new Map<string, Listener>();
  #streams: MemoryStream[] = [];
  #nextPort = 49_152;

  constructor(options: MemoryNetworkOptions = {}) {
    this.#options = options;
  }

  listen(
    at: StreamAddress,
    onStream: (stream: ByteStream) => void,
    tls?: TlsServer,
  ): Promise<StreamListener> {
    const port = at.port === 0 ? this.#nextPort++ : at.port;
    const name = formatAddress(at.address, port);
    if (this.#listeners.has(name)) {
      const error = new PeerlaneError("listen-failed", `cannot listen on ${name}: in use`, {
        remedy: "choose another port",
      });
      return Promise.reject(error);
    }
    this.#listeners.set(name, { onStream, tls: tls ?? null });
    const close = async (): Promise<void> => {
      this.#listeners.delete(name);
    };
    return Promise.resolve({ at: { address: at.address, port }, close });
  }

  connect(to: StreamAddress, tls?: TlsClient): Promise<ByteStream> {
    const name = formatAddress(to.address, to.port);
    const listener = this.#listeners.get(name);
    if (listener === undefined) {
      const error = new PeerlaneError("connect-failed", `cannot reach ${name}: nothing listens`, {
        remedy: "start the target",
      });
      return Promise.reject(error);
    }
    const own = formatAddress("127.0.0.1", this.#nextPort++);
    const [near, far] = MemoryStream.pair([own, name], this.#options) as [
      MemoryStream,
      MemoryStream,
    ];
    const problem = handshakeProblem(listener.tls, tls ?? null);
    if (problem !== null) {
      listener.tls?.refused(own, problem);
      const error = new PeerlaneError("tls-failed", `no TLS with ${name}: ${problem}`, {
        remedy: "compare the keys",
      });
      return Promise.reject(error);
    }
    near.tlsIdentity = tls?.identity ?? null;
    far.tlsIdentity = near.tlsIdentity;
    this.#streams.push(near, far);
    listener.onStream(far);
    return Promise.resolve(near);
  }

  /** Cuts all connections, as a pulled cable and a killed process do: both ends hear of it. */
  cutAll(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  poll(): number {
    let done = 0;
    for (const stream of this.#streams) done += stream.step();
    if (this.#streams.some(({ isOver }) => isOver)) {
      this.#streams = this.#streams.filter(({ isOver }) => !isOver);
    }
    return done;
  }
}
