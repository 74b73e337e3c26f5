/**
 * The model RNIC's two entrances on the data plane: a step asked for by doorbells, and a run from
 * the wire. Routes each to the queue pair it is for.
 *
 * Invariant: a run is taken only from the peer that its queue pair is connected to; everything else
 * is dropped and counted, as IBA 9.6 has it.
 */

import { RNIC_BURST_MAX } from "../../../core/index.ts";
import {
  GID_BYTES,
  GRH_BYTES,
  GRH_NEXT_HEADER_IBA,
  QpState,
  QpType,
} from "../../../spec/rdma/index.ts";
import { Event } from "../../../trace/index.ts";
import type { Answers } from "./answers.hot.ts";
import type { Engine } from "./engine.hot.ts";
import type { RnicQp } from "./queue-pair.ts";
import type { Requester } from "./requester.hot.ts";
import type { Responder } from "./responder.hot.ts";
import type { SendQueue } from "./send-queue.hot.ts";
import { RunKind, type WireEndpoint, type WireRun } from "./wire.ts";

/** IPVer 6 of a global routing header, no class and no flow. */
const GRH_VERSION = 0x60;
const HOP_LIMIT = 64;

export class Dispatcher implements WireEndpoint {
  /** CTRL.EN: until then runs are dropped and steps do nothing. */
  enabled = false;
  /** Runs for no queue pair, or from a stranger. */
  dropped = 0;
  private stepping = false;
  private readonly header = new Uint8Array(GRH_BYTES);
  private readonly engine: Engine;
  private readonly queue: SendQueue;
  private readonly requester: Requester;
  private readonly responder: Responder;
  private readonly answers: Answers;

  constructor(
    engine: Engine,
    queue: SendQueue,
    requester: Requester,
    responder: Responder,
    answers: Answers,
  ) {
    this.engine = engine;
    this.queue = queue;
    this.requester = requester;
    this.responder = responder;
    this.answers = answers;
  }

  /** One turn for every queue pair that had work at the call. */
  step(): void {
    const { engine } = this;
    engine.serial++;
    engine.completions.step();
    if (!this.enabled) return;
    this.stepping = true;
    for (let left = engine.activeCount; left > 0; left--) {
      const qp = engine.takeActive();
      if (!qp.destroyed && this.serve(qp)) engine.activate(qp);
    }
    this.stepping = false;
  }

  /** True when the queue pair has more to do. */
  private serve(qp: RnicQp): boolean {
    switch (qp.state) {
      case QpState.rts:
      case QpState.sqd:
        return this.requester.pump(qp, RNIC_BURST_MAX);
      case QpState.sqe:
        return this.queue.flush(qp, RNIC_BURST_MAX);
      case QpState.error: {
        const more = this.queue.flush(qp, RNIC_BURST_MAX);
        return this.responder.flush(qp, RNIC_BURST_MAX) || more;
      }
      default:
        return false;
    }
  }

  receive(run: WireRun): void {
    const { engine } = this;
    // Outside a step of this RNIC, what it borrowed before is gone.
    if (!this.stepping) engine.serial++;
    const { tracer } = engine;
    if (tracer.on) {
      tracer.emit(Event.rdmaRun, engine.port.bdf, run.kind, run.psn, run.payloadBytes);
    }
    const qp = run.destQpn < engine.qps.length ? engine.qps[run.destQpn] : null;
    if (!this.enabled || qp === null) {
      this.dropped++;
      return;
    }
    if (run.kind === RunKind.datagram) {
      this.datagram(qp, run);
      return;
    }
    if (qp.type !== QpType.rc || !this.isFromPeer(qp, run)) {
      this.dropped++;
      return;
    }
    if (run.kind === RunKind.acknowledge) this.answers.acknowledge(qp, run);
    else if (run.kind === RunKind.readResponse) this.answers.readResponse(qp, run);
    else this.responder.request(qp, run);
  }

  private isFromPeer(qp: RnicQp, run: WireRun): boolean {
    if (run.sourceQpn !== qp.destQpn || qp.path === null) return false;
    // A wire lends the same array again and again: compare its contents once.
    if (run.sourceGid === qp.knownSource) return true;
    const peer = qp.path.gid;
    const source = run.sourceGid;
    for (let i = GID_BYTES - 1; i >= 0; i--) if (peer[i] !== source[i]) return false;
    qp.knownSource = source;
    return true;
  }

  private datagram(qp: RnicQp, run: WireRun): void {
    if (qp.type === QpType.rc) {
      this.dropped++;
      return;
    }
    const header = this.header;
    header[0] = GRH_VERSION;
    header[4] = run.payloadBytes >> 8;
    header[5] = run.payloadBytes;
    header[6] = GRH_NEXT_HEADER_IBA;
    header[7] = HOP_LIMIT;
    const own = this.engine.wire.gid;
    for (let i = 0; i < GID_BYTES; i++) {
      header[8 + i] = run.sourceGid[i];
      header[24 + i] = own[i];
    }
    this.responder.datagram(qp, run, header);
  }
}
