/**
 * Control verbs inside the model RNIC: one command at a time from the mailbox, carried out when the
 * command register is written. IBA chapter 11.2; structures in spec/rdma/rnic.ts.
 *
 * Invariants: a command that fails changes nothing; objects are destroyed only when nobody refers
 * to them (queue pairs and regions to domains, queue pairs to completion queues).
 */

import {
  ADDRESS_LIMIT,
  decodeLayout,
  encodeLayout,
  isAddress,
  isVisibleToInitiator,
  type Layout,
  type LayoutValue,
  RNIC_MR_RANGES_MAX,
} from "../../../core/index.ts";
import {
  Access,
  CREATE_CQ_IN,
  CREATE_MR_IN,
  CREATE_QP_IN,
  checkTransition,
  GSI_QKEY,
  GSI_QPN,
  MAILBOX_INPUT_BYTES,
  MAILBOX_OUTPUT,
  MAILBOX_OUTPUT_BYTES,
  MODIFY_MR_IN,
  MODIFY_QP_IN,
  MrState,
  mtuCode,
  ONE_OBJECT_IN,
  ONE_OBJECT_OUT,
  PSN_MASK,
  QpAttr,
  QpState,
  QpType,
  QUERY_QP_OUT,
  RNIC_NUMBER_LIMIT,
  RNR_TIMER_NS,
  RnicCommand,
  RQE_STRIDE_LOG_MAX,
  RQE_STRIDE_LOG_MIN,
  RnicCommandStatus as Status,
  TransitionCheck,
  timeoutNs,
  WQE_STRIDE_LOG_MIN,
} from "../../../spec/rdma/index.ts";
import { RnicCq } from "./completion.hot.ts";
import type { Engine } from "./engine.hot.ts";
import { type QpRings, RnicQp } from "./queue-pair.ts";
import type { Region } from "./region-table.hot.ts";

/** What a command answers: a status, and more about it. */
export interface CommandResult {
  readonly code: number;
  readonly detail: number;
}

type Values = Record<string, LayoutValue>;

const OK: CommandResult = { code: Status.ok, detail: 0 };
const failed = (code: number, detail = 0): CommandResult => ({ code, detail });
const num = (values: Values, name: string): number => values[name] as number;

/** Longest retry counts and timer codes: 3 and 5 bits. */
const RETRY_LIMIT = 8;
const TIMEOUT_LIMIT = 32;

export class CommandUnit {
  private readonly engine: Engine;
  private readonly input = new Uint8Array(MAILBOX_INPUT_BYTES);
  private readonly output = new Uint8Array(MAILBOX_OUTPUT_BYTES);
  /** References per domain; -1 for a free number. */
  private readonly domains: Int32Array;
  private lastQpn = GSI_QPN;
  private lastCqn = 0;

  constructor(engine: Engine) {
    this.engine = engine;
    this.domains = new Int32Array(engine.limits.pdMax).fill(-1);
  }

  /** Reads the mailbox, carries the command out, writes its output. */
  execute(opcode: number, mailbox: number): CommandResult {
    const { port } = this.engine;
    const read = port.read(mailbox, this.input, 0, MAILBOX_INPUT_BYTES);
    if (read !== 0) return failed(Status.dmaFailed, read);
    this.output.fill(0);
    const result = this.dispatch(opcode);
    if (result.code !== Status.ok) return result;
    const written = port.write(mailbox + MAILBOX_OUTPUT, this.output, 0, MAILBOX_OUTPUT_BYTES);
    return isVisibleToInitiator(written) ? failed(Status.dmaFailed, written) : result;
  }

  private dispatch(opcode: number): CommandResult {
    switch (opcode) {
      case RnicCommand.allocPd:
        return this.allocPd();
      case RnicCommand.deallocPd:
        return this.deallocPd(this.object());
      case RnicCommand.createCq:
        return this.createCq(this.decode(CREATE_CQ_IN));
      case RnicCommand.destroyCq:
        return this.destroyCq(this.object());
      case RnicCommand.createMr:
        return this.createMr(this.decode(CREATE_MR_IN));
      case RnicCommand.destroyMr:
        return this.destroyMr(this.object());
      case RnicCommand.modifyMr:
        return this.modifyMr(this.decode(MODIFY_MR_IN));
      case RnicCommand.createQp:
        return this.createQp(this.decode(CREATE_QP_IN));
      case RnicCommand.modifyQp:
        return this.modifyQp(this.decode(MODIFY_QP_IN));
      case RnicCommand.queryQp:
        return this.queryQp(this.object());
      case RnicCommand.destroyQp:
        return this.destroyQp(this.object());
      default:
        return failed(Status.badOpcode);
    }
  }

  private decode(layout: Layout): Values {
    return decodeLayout(layout, this.input);
  }

  private object(): number {
    return num(this.decode(ONE_OBJECT_IN), "number");
  }

  private give(number: number): CommandResult {
    encodeLayout(ONE_OBJECT_OUT, { number }, this.output);
    return OK;
  }

  private isDomain(pd: number): boolean {
    return pd < this.domains.length && this.domains[pd] >= 0;
  }

  private allocPd(): CommandResult {
    const pd = this.domains.indexOf(-1);
    if (pd < 0) return failed(Status.noResources);
    this.domains[pd] = 0;
    return this.give(pd);
  }

  private deallocPd(pd: number): CommandResult {
    if (!this.isDomain(pd)) return failed(Status.noSuchObject);
    if (this.domains[pd] > 0) return failed(Status.busy, Math.min(this.domains[pd], 0xffff));
    this.domains[pd] = -1;
    return OK;
  }

  private createCq(values: Values): CommandResult {
    const { limits, cqs } = this.engine;
    const depthLog = num(values, "depthLog");
    const ring = num(values, "ring");
    const record = num(values, "record");
    if (depthLog > limits.queueLogMax || !aligned(ring, 64) || !aligned(record, 4)) {
      return failed(Status.badParameter);
    }
    const number = freeNumber(cqs, this.lastCqn, 0);
    if (number < 0) return failed(Status.noResources);
    this.lastCqn = number;
    cqs[number] = new RnicCq(number, ring, depthLog, record, num(values, "vector"));
    return this.give(number);
  }

  private destroyCq(number: number): CommandResult {
    const cq = this.engine.cqs[number] ?? null;
    if (cq === null) return failed(Status.noSuchObject);
    if (cq.users > 0) return failed(Status.busy, cq.users);
    cq.destroyed = true;
    this.engine.cqs[number] = null;
    return OK;
  }

  private createMr(values: Values): CommandResult {
    const { regions } = this.engine;
    const pd = num(values, "pd");
    const access = num(values, "access");
    const count = num(values, "rangeCount");
    const fastRegister = num(values, "fastRegister") === 1;
    const address = num(values, "address");
    if (!this.isDomain(pd)) return failed(Status.noSuchObject);
    if (count < 1 || count > RNIC_MR_RANGES_MAX || !accessIsSane(access) || !isAddress(address)) {
      return failed(Status.badParameter);
    }
    const region = regions.create(pd, count, fastRegister);
    if (region === null) return failed(Status.noResources);
    if (!fastRegister) {
      const result = this.fillRegion(region, values, address, access);
      if (result.code !== Status.ok) {
        regions.destroy(region);
        return result;
      }
    }
    this.domains[pd]++;
    return this.give(region.key);
  }

  private fillRegion(
    region: Region,
    values: Values,
    address: number,
    access: number,
  ): CommandResult {
    const { regions, port } = this.engine;
    const length = num(values, "length");
    const list = num(values, "ranges");
    const status = regions.readRanges(region, port, list, num(values, "rangeCount"));
    if (status > 0) return failed(Status.dmaFailed, status);
    if (status < 0 || region.length !== length || address + length > ADDRESS_LIMIT) {
      return failed(Status.badParameter);
    }
    region.define(address, length, access);
    return OK;
  }

  private destroyMr(key: number): CommandResult {
    const region = this.engine.regions.findSlot(key);
    if (region === null) return failed(Status.noSuchObject);
    this.engine.regions.destroy(region);
    this.domains[region.pd]--;
    return OK;
  }

  private modifyMr(values: Values): CommandResult {
    const { regions } = this.engine;
    const region = regions.find(num(values, "key"));
    if (region === null || region.fastRegister) return failed(Status.noSuchObject);
    switch (num(values, "state")) {
      case MrState.suspended:
        if (!region.valid) return failed(Status.badTransition);
        if (this.isInMessage(region.pd)) return failed(Status.busy);
        region.valid = false;
        regions.setSuspended(region, true);
        return OK;
      case MrState.invalid:
        region.valid = false;
        regions.setSuspended(region, false);
        return OK;
      case MrState.valid:
        return this.translateAnew(region, values);
      default:
        return failed(Status.badParameter);
    }
  }

  private translateAnew(region: Region, values: Values): CommandResult {
    const { regions } = this.engine;
    const { address, access, length } = region;
    const count = num(values, "rangeCount");
    if (region.valid) return failed(Status.badTransition);
    if (count < 1 || count > region.targets.length || num(values, "length") !== length) {
      return failed(Status.badParameter);
    }
    const result = this.fillRegion(region, values, address, access);
    // What could not be read leaves it as it was: not valid.
    region.length = length;
    if (result.code === Status.ok) regions.setSuspended(region, false);
    return result;
  }

  /** A queue pair of the domain has begun something that may need any of the domain's regions. */
  private isInMessage(pd: number): boolean {
    return this.engine.qps.some(
      (qp) => qp !== null && qp.pd === pd && (qp.inMessage !== 0 || qp.readsOutstanding > 0),
    );
  }

  private createQp(values: Values): CommandResult {
    const { cqs, qps } = this.engine;
    const pd = num(values, "pd");
    const type = num(values, "type") as QpType;
    const sendCq = cqs[num(values, "sendCq")] ?? null;
    const recvCq = cqs[num(values, "recvCq")] ?? null;
    if (!this.isDomain(pd) || sendCq === null || recvCq === null) {
      return failed(Status.noSuchObject);
    }
    const rings: QpRings = {
      sendRing: num(values, "sendRing"),
      sendLog: num(values, "sendLog"),
      sendStrideLog: num(values, "sendStrideLog"),
      recvRing: num(values, "recvRing"),
      recvLog: num(values, "recvLog"),
      recvStrideLog: num(values, "recvStrideLog"),
      recvRecord: num(values, "recvRecord"),
    };
    if (type > QpType.gsi || !this.ringsAreSane(rings)) return failed(Status.badParameter);
    let number = GSI_QPN as number;
    if (type === QpType.gsi) {
      if (qps[GSI_QPN] !== null) return failed(Status.busy);
    } else {
      number = freeNumber(qps, this.lastQpn, GSI_QPN + 1);
      if (number < 0) return failed(Status.noResources);
      this.lastQpn = number;
    }
    const signalAll = num(values, "signalAll") === 1;
    const qp = new RnicQp(number, type, pd, sendCq, recvCq, signalAll, rings);
    if (type === QpType.gsi) qp.qkey = GSI_QKEY;
    qps[number] = qp;
    sendCq.users++;
    recvCq.users++;
    this.domains[pd]++;
    return this.give(number);
  }

  private ringsAreSane(rings: QpRings): boolean {
    const { queueLogMax, wqeStrideLogMax } = this.engine.limits;
    return (
      rings.sendLog <= queueLogMax &&
      rings.recvLog <= queueLogMax &&
      rings.sendStrideLog >= WQE_STRIDE_LOG_MIN &&
      rings.sendStrideLog <= wqeStrideLogMax &&
      rings.recvStrideLog >= RQE_STRIDE_LOG_MIN &&
      rings.recvStrideLog <= RQE_STRIDE_LOG_MAX &&
      aligned(rings.sendRing, 2 ** rings.sendStrideLog) &&
      aligned(rings.recvRing, 2 ** rings.recvStrideLog) &&
      aligned(rings.recvRecord, 4)
    );
  }

  private modifyQp(values: Values): CommandResult {
    const qp = this.engine.qps[num(values, "number")] ?? null;
    if (qp === null) return failed(Status.noSuchObject);
    const mask = num(values, "mask");
    const to = num(values, "state") as QpState;
    const check = checkTransition(qp.type, qp.state, to, mask);
    if (check !== TransitionCheck.ok) return failed(Status.badTransition, check);
    if (!attributesAreSane(values, mask, this.engine)) return failed(Status.badParameter);
    this.setAttributes(qp, values, mask);
    if (to === QpState.reset) qp.clear();
    else if (to === QpState.error) this.engine.toError(qp);
    else {
      qp.state = to;
      // RTS: what was posted while draining. SQD: what waits for an acknowledgement may ask again.
      if (to === QpState.rts || to === QpState.sqd) this.engine.activate(qp);
    }
    return OK;
  }

  private setAttributes(qp: RnicQp, values: Values, mask: number): void {
    const has = (attribute: number): boolean => (mask & attribute) !== 0;
    if (has(QpAttr.accessFlags)) qp.remoteAccess = num(values, "accessFlags");
    if (has(QpAttr.qkey) && qp.type !== QpType.gsi) qp.qkey = num(values, "qkey");
    if (has(QpAttr.path)) {
      qp.path = this.engine.wire.path(values["path"] as Uint8Array);
      qp.knownSource = new Uint8Array(0);
    }
    if (has(QpAttr.pathMtu)) qp.pathMtu = num(values, "pathMtu");
    if (has(QpAttr.destQpn)) qp.destQpn = num(values, "destQpn");
    if (has(QpAttr.rqPsn)) qp.expectedPsn = num(values, "rqPsn") & PSN_MASK;
    if (has(QpAttr.maxDestRdAtomic)) qp.maxDestRdAtomic = num(values, "maxDestRdAtomic");
    if (has(QpAttr.maxRdAtomic)) qp.maxRdAtomic = num(values, "maxRdAtomic");
    if (has(QpAttr.minRnrTimer)) qp.minRnrTimer = num(values, "minRnrTimer");
    if (has(QpAttr.timeout)) {
      const code = num(values, "timeout");
      qp.timeoutNs = code === 0 ? 0 : timeoutNs(code);
    }
    if (has(QpAttr.retryCount)) qp.retryLeft = qp.retryCount = num(values, "retryCount");
    if (has(QpAttr.rnrRetry)) qp.rnrLeft = qp.rnrRetry = num(values, "rnrRetry");
    if (has(QpAttr.sqPsn)) {
      const psn = num(values, "sqPsn") & PSN_MASK;
      qp.sqPsn = psn;
      qp.sentPsn = psn;
      qp.ackedPsn = (psn - 1) & PSN_MASK;
    }
  }

  private queryQp(number: number): CommandResult {
    const qp = this.engine.qps[number] ?? null;
    if (qp === null) return failed(Status.noSuchObject);
    const values = {
      state: qp.state,
      sqPsn: qp.sqPsn,
      rqPsn: qp.expectedPsn,
      sendPending: (qp.sqTail - qp.sqHead) & 0xffff,
    };
    encodeLayout(QUERY_QP_OUT, values, this.output);
    return OK;
  }

  private destroyQp(number: number): CommandResult {
    const qp = this.engine.qps[number] ?? null;
    if (qp === null) return failed(Status.noSuchObject);
    qp.clear();
    qp.destroyed = true;
    qp.sendCq.users--;
    qp.recvCq.users--;
    this.domains[qp.pd]--;
    this.engine.qps[number] = null;
    return OK;
  }
}

const aligned = (address: number, alignment: number): boolean =>
  isAddress(address) && address % alignment === 0;

/** Remote writing needs the right of local writing. IBA 10.6.3.1. */
const accessIsSane = (access: number): boolean =>
  (access & Access.remoteWrite) === 0 || (access & Access.localWrite) !== 0;

function attributesAreSane(values: Values, mask: number, engine: Engine): boolean {
  const within = (attribute: number, name: string, limit: number): boolean =>
    (mask & attribute) === 0 || num(values, name) < limit;
  const { readDepthMax } = engine.limits;
  if ((mask & QpAttr.pathMtu) !== 0) {
    const mtu = num(values, "pathMtu");
    const code = mtuCode(mtu);
    if (!Number.isInteger(code) || code < 1 || mtu > engine.wire.mtu) return false;
  }
  return (
    within(QpAttr.pkeyIndex, "pkeyIndex", 1) &&
    ((mask & QpAttr.port) === 0 || num(values, "port") === 1) &&
    within(QpAttr.destQpn, "destQpn", 2 ** 24) &&
    within(QpAttr.maxDestRdAtomic, "maxDestRdAtomic", readDepthMax + 1) &&
    within(QpAttr.maxRdAtomic, "maxRdAtomic", readDepthMax + 1) &&
    within(QpAttr.minRnrTimer, "minRnrTimer", RNR_TIMER_NS.length) &&
    within(QpAttr.timeout, "timeout", TIMEOUT_LIMIT) &&
    within(QpAttr.retryCount, "retryCount", RETRY_LIMIT) &&
    within(QpAttr.rnrRetry, "rnrRetry", RETRY_LIMIT)
  );
}

/** The next free number after `last`, at least `first`: numbers are reused as late as possible. */
function freeNumber(table: readonly (object | null)[], last: number, first: number): number {
  const limit = Math.min(table.length, RNIC_NUMBER_LIMIT);
  for (let i = 1; i <= limit; i++) {
    const number = (last + i) % limit;
    if (number >= first && table[number] === null) return number;
  }
  return -1;
}
