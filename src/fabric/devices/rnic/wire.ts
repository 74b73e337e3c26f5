/**
 * The seam between an RNIC model and what carries its messages. Behind it is an in-process wire now
 * (in-process-wire.ts) and a wire of real packets later.
 *
 * What crosses it is a *run*: consecutive packets of one message, with the PSN of the first. A run
 * carries its payload as fragments that are lent for the length of the call. The models own
 * everything the transport specification calls QP context: PSNs, acknowledgements, retries, timers;
 * a wire only carries, and may lose. It must not reorder runs from one port to another.
 *
 * A packet wire (RoCEv2) plugs in like this. Sending: cut the run into packets of the path MTU,
 * with BTH.psn = run.psn + i, the First/Middle/Last/Only opcode from `kind`, `first`, `last` and
 * the packet's place; RETH, ImmDt, IETH, AETH, DETH from the fields below (layouts in spec/rdma);
 * gather the fragments into the packets. Receiving: each packet is a run of one packet and one
 * fragment. The models cut runs at multiples of the path MTU for that reason. Addresses are GIDs,
 * which RoCEv2 maps to and from IP addresses (spec/rdma/gid.ts).
 *
 * Invariant: nobody keeps a message or a fragment after the call that brought it.
 */

import { type Inspectable, Span, WIRE_FRAGMENTS_MAX } from "../../../core/index.ts";
import type { DevicePort } from "../../device.ts";

/** What a run belongs to. Together with `first` and `last` it is the BTH opcode. */
export const RunKind = {
  send: 1,
  write: 2,
  readRequest: 3,
  readResponse: 4,
  /** ACK, NAK or RNR NAK: see `syndrome`. */
  acknowledge: 5,
  datagram: 6,
} as const;
export type RunKind = (typeof RunKind)[keyof typeof RunKind];

export const RUN_KIND_NAMES: readonly string[] = [
  "",
  "SEND",
  "RDMA WRITE",
  "RDMA READ request",
  "RDMA READ response",
  "acknowledge",
  "datagram",
];

/** Flags of a run; sums. */
export const RunFlag = {
  solicited: 1,
  /** `immediate` is the ImmDt. */
  withImm: 2,
  /** `immediate` is the IETH: the R_Key to invalidate. */
  withInvalidate: 4,
} as const;

const NO_GID = new Uint8Array(16);

/** A run. One object per sending role, reused for every run. */
export class WireRun {
  kind: number = RunKind.send;
  flags = 0;
  first = true;
  last = true;
  /** BTH.A of the last packet: the sender wants an acknowledgement. */
  ackRequest = true;
  sourceQpn = 0;
  destQpn = 0;
  /** PSN of the first packet. */
  psn = 0;
  /** Packets that the run stands for: PSNs it uses up. */
  packets = 1;
  immediate = 0;
  /** RETH: WRITE (first run) and READ request. */
  remoteAddress = 0;
  rkey = 0;
  /** RETH: bytes of the whole message. */
  length = 0;
  /** AETH. */
  syndrome = 0;
  msn = 0;
  /** DETH. */
  qkey = 0;
  /** Set by the wire at delivery. Arrays are not changed afterwards: one array, one sender. */
  sourceGid: Uint8Array = NO_GID;
  readonly fragments: readonly Span[] = Array.from(
    { length: WIRE_FRAGMENTS_MAX },
    () => new Span(),
  );
  fragmentCount = 0;
  payloadBytes = 0;

  /** Forgets the payload. */
  clearPayload(): void {
    this.fragmentCount = 0;
    this.payloadBytes = 0;
  }

  /** Appends lent bytes; false when the fragments are used up. */
  addFragment(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.fragmentCount === this.fragments.length) return false;
    this.fragments[this.fragmentCount].set(bytes, offset, length);
    this.fragmentCount++;
    this.payloadBytes += length;
    return true;
  }

  /** Cuts the payload to its first `bytes` bytes. */
  truncate(bytes: number): void {
    let left = bytes;
    let count = 0;
    while (left > 0) {
      const fragment = this.fragments[count];
      if (fragment.length > left) fragment.length = left;
      left -= fragment.length;
      count++;
    }
    this.fragmentCount = count;
    this.payloadBytes = bytes;
  }

  /** Copies everything but the payload. */
  copyHeader(from: WireRun): void {
    this.kind = from.kind;
    this.flags = from.flags;
    this.first = from.first;
    this.last = from.last;
    this.ackRequest = from.ackRequest;
    this.sourceQpn = from.sourceQpn;
    this.destQpn = from.destQpn;
    this.psn = from.psn;
    this.packets = from.packets;
    this.immediate = from.immediate;
    this.remoteAddress = from.remoteAddress;
    this.rkey = from.rkey;
    this.length = from.length;
    this.syndrome = from.syndrome;
    this.msn = from.msn;
    this.qkey = from.qkey;
    this.sourceGid = from.sourceGid;
  }
}

/** Who sits at a port: an RNIC model. */
export interface WireEndpoint {
  /** A run arrived. May send runs itself, also before it returns. */
  receive(run: WireRun): void;
}

/** Where runs go: made once per connection, so that sending looks nothing up. Opaque to models. */
export interface WirePath {
  readonly gid: Uint8Array;
}

/** One port of a wire. */
export interface WirePort extends Inspectable {
  readonly gid: Uint8Array;
  /** Bytes of payload in one packet. */
  readonly mtu: number;
  /** The way to a GID. Always succeeds: a packet to nobody is lost, and the sender times out. */
  path(gid: Uint8Array): WirePath;
  /** Carries the run, or loses it. The fragments may be reused when it returns. Never throws. */
  send(path: WirePath, run: WireRun): void;
  detach(): void;
}

export interface Wire extends Inspectable {
  /**
   * Puts an endpoint at an address. `port` is the endpoint's own, for its sense of time. Throws
   * `wire-address-busy`.
   */
  attach(gid: Uint8Array, endpoint: WireEndpoint, port: DevicePort): WirePort;
}
