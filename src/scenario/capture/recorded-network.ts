/**
 * A network whose streams pass through a capture. A connection that begins while none is running is
 * the inner network's own stream.
 */

import {
  type ByteStream,
  CLOSED_BY_PEER,
  type Network,
  type StreamAddress,
  type StreamEvents,
  type StreamListener,
  type TlsClient,
  type TlsServer,
  tryParseAddress,
} from "../../platform/index.ts";
import { parseGid } from "../../spec/rdma/index.ts";
import { TcpConversation, type TcpEndpoint } from "../../trace/index.ts";
import type { Recording } from "./recording.ts";

/** Packets that open a connection, or end it, take less than this. */
const CONTROL_BYTES = 1024;

export class RecordedNetwork implements Network {
  private readonly inner: Network;
  private readonly current: () => Recording | null;

  constructor(inner: Network, current: () => Recording | null) {
    this.inner = inner;
    this.current = current;
  }

  listen(
    at: StreamAddress,
    onStream: (stream: ByteStream) => void,
    tls?: TlsServer,
  ): Promise<StreamListener> {
    return this.inner.listen(at, (stream) => onStream(this.recorded(stream, true)), tls);
  }

  async connect(to: StreamAddress, tls?: TlsClient): Promise<ByteStream> {
    return this.recorded(await this.inner.connect(to, tls), false);
  }

  private recorded(stream: ByteStream, isInbound: boolean): ByteStream {
    const current = this.current();
    return current === null ? stream : new RecordedStream(stream, current, isInbound);
  }
}

class RecordedStream implements ByteStream, StreamEvents {
  readonly peer: string;
  readonly localAddress: string;
  readonly localPort: number;
  readonly tlsIdentity: string | null;
  private readonly inner: ByteStream;
  private readonly recording: Recording;
  private readonly conversation: TcpConversation;
  private events: StreamEvents | null = null;

  constructor(inner: ByteStream, recording: Recording, isInbound: boolean) {
    this.peer = inner.peer;
    this.localAddress = inner.localAddress;
    this.localPort = inner.localPort;
    this.tlsIdentity = inner.tlsIdentity;
    this.inner = inner;
    this.recording = recording;
    const near = { address: addressBytes(inner.localAddress), port: inner.localPort };
    const index = recording.connections++;
    const conversation = new TcpConversation(recording.writer, near, farEnd(inner.peer), index);
    this.conversation = conversation;
    const comment = inner.tlsIdentity === null ? "" : "TLS 1.3 on the wire: decrypted here";
    recording.add(CONTROL_BYTES, (timeNs) => conversation.open(timeNs, isInbound, comment));
  }

  get pendingBytes(): number {
    return this.inner.pendingBytes;
  }

  start(events: StreamEvents): void {
    this.events = events;
    this.inner.start(this);
  }

  private data(isInbound: boolean, bytes: Uint8Array): void {
    const { recording, conversation } = this;
    if (!recording.isOn) return;
    recording.add(conversation.dataSize(bytes.length), (timeNs) =>
      conversation.data(timeNs, isInbound, bytes),
    );
  }

  write(bytes: Uint8Array, written?: () => void): boolean {
    this.data(false, bytes);
    return this.inner.write(bytes, written);
  }

  onData(bytes: Uint8Array): void {
    this.data(true, bytes);
    this.events?.onData(bytes);
  }

  onDrain(): void {
    this.events?.onDrain();
  }

  onEnd(reason: string): void {
    const { recording, conversation } = this;
    recording.add(CONTROL_BYTES, (timeNs) => {
      if (reason === CLOSED_BY_PEER) {
        conversation.finish(timeNs, true, "");
        conversation.finish(timeNs, false, "");
      } else {
        // An error is the peer's doing as far as one can tell; else this side did not wait.
        conversation.reset(timeNs, reason !== "closed", reason);
      }
    });
    this.events?.onEnd(reason);
  }

  pause(): void {
    this.inner.pause();
  }

  resume(): void {
    this.inner.resume();
  }

  end(): void {
    const { recording, conversation } = this;
    recording.add(CONTROL_BYTES, (timeNs) => conversation.finish(timeNs, false, ""));
    this.inner.end();
  }

  destroy(): void {
    const { recording, conversation } = this;
    recording.add(CONTROL_BYTES, (timeNs) => conversation.reset(timeNs, false, "closed at once"));
    this.inner.destroy();
  }
}

function farEnd(peer: string): TcpEndpoint {
  const at = tryParseAddress(peer, 0);
  return { address: addressBytes(at?.address ?? ""), port: at?.port ?? 0 };
}

/** 16 bytes; those of 0.0.0.0 for what is no address. */
function addressBytes(text: string): Uint8Array {
  // Without brackets, zone, and the prefix of an IPv4 address in a socket for both families.
  const bare = text.replace(/^\[|\]$/g, "").replace(/%.*$/, "");
  try {
    return parseGid(bare.replace(/^::ffff:(?=\d+\.)/i, ""));
  } catch {
    return parseGid("0.0.0.0");
  }
}
