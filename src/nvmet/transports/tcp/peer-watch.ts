/**
 * Finds out that a peer does not do its part: it takes nothing of what is sent to it, does not send
 * the data it was asked for, or is endless about one command. Looked at a few times a second,
 * besides the data path, which does nothing for it but count.
 *
 * Leaves out: peers that owe nothing (keep-alive is for those) and those that never connected.
 */

import { NS_PER_S } from "../../../core/index.ts";
import type { PeerPatience } from "../../channel.ts";
import { RequestState, type TargetRequest } from "../../request.hot.ts";

/** What a connection has moved, and whether it waits for the peer to move more. */
export interface PeerProgress {
  /** Something was given to the socket, and the peer has not made room for all of it. */
  readonly owesReading: boolean;
  /** Changes whenever the socket takes something. */
  readonly read: number;
  /** An R2T is out. */
  readonly owesData: boolean;
  /** Changes whenever data comes for one. */
  readonly delivered: number;
}

/** Since when a number has not changed although it should. */
class Standstill {
  private mark = -1;
  private sinceNs = 0;

  lastsNs(nowNs: number, isOwed: boolean, mark: number): number {
    if (!isOwed || mark !== this.mark) {
      this.mark = mark;
      this.sinceNs = nowNs;
    }
    return nowNs - this.sinceNs;
  }
}

const seconds = (ns: number): string => `${Math.round(ns / NS_PER_S)} s`;

/** The host has to take or send data. */
function isHosts(state: RequestState): boolean {
  const { fetching, reading, responding } = RequestState;
  return state === fetching || state === reading || state === responding;
}

export class PeerWatch {
  private readonly requests: readonly TargetRequest[];
  /** Which command of each request was seen waiting for the peer, and since when. */
  private readonly serials: Float64Array;
  private readonly sinceNs: Float64Array;
  private readonly reading = new Standstill();
  private readonly delivery = new Standstill();

  constructor(requests: readonly TargetRequest[]) {
    this.requests = requests;
    this.serials = new Float64Array(requests.length).fill(-1);
    this.sinceNs = new Float64Array(requests.length);
  }

  /** Why the connection must end; null: the peer does its part. */
  look(nowNs: number, progress: PeerProgress, patience: PeerPatience): string | null {
    const { owesReading, read, owesData, delivered } = progress;
    const { stallNs, transferNs } = patience;
    if (this.reading.lastsNs(nowNs, owesReading, read) >= stallNs) {
      return `the host took no data for ${seconds(stallNs)}`;
    }
    if (this.delivery.lastsNs(nowNs, owesData, delivered) >= stallNs) {
      return `the host sent no H2CData for ${seconds(stallNs)}`;
    }
    for (const { tag, serial, state } of this.requests) {
      if (!isHosts(state)) {
        this.serials[tag] = -1;
      } else if (this.serials[tag] !== serial) {
        this.serials[tag] = serial;
        this.sinceNs[tag] = nowNs;
      } else if (nowNs - (this.sinceNs[tag] ?? nowNs) >= transferNs) {
        return `the data of one command took over ${seconds(transferNs)}`;
      }
    }
    return null;
  }
}
