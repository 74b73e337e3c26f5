/**
 * Queue pair types, states, and which change of state is legal with which attributes. IBA 10.3.1
 * (state diagram) and 11.2.4.2 "Modify Queue Pair" (tables of required and optional attributes).
 * Driver and device both check with {@link checkTransition}, each on its side of the bus.
 *
 * Leaves out: UC and RD service, path migration (alternate path attributes), SQD's drain event.
 */

export const QpType = {
  /** Reliable connection. */
  rc: 0,
  /** Unreliable datagram. */
  ud: 1,
  /** Queue pair 1, the general service interface: UD with a number of its own. */
  gsi: 2,
} as const;
export type QpType = (typeof QpType)[keyof typeof QpType];

export const QP_TYPE_NAMES: readonly string[] = ["RC", "UD", "GSI"];

/** The QP number of the general service interface. */
export const GSI_QPN = 1;
/** The Q_Key that QP 1 has by definition. IBA 10.2.5. */
export const GSI_QKEY = 0x80010000;
/** The default partition's full-member key. */
export const DEFAULT_PKEY = 0xffff;

export const QpState = {
  reset: 0,
  init: 1,
  /** Ready to receive. */
  rtr: 2,
  /** Ready to send. */
  rts: 3,
  /** Send queue drain: what was begun completes, nothing new starts. */
  sqd: 4,
  /** Send queue error: UD only; the receive queue works on. */
  sqe: 5,
  error: 6,
} as const;
export type QpState = (typeof QpState)[keyof typeof QpState];

export const QP_STATE_NAMES: readonly string[] = [
  "RESET",
  "INIT",
  "RTR",
  "RTS",
  "SQD",
  "SQE",
  "ERR",
];

/** Attributes of a queue pair as bits of a mask. */
export const QpAttr = {
  state: 1 << 0,
  accessFlags: 1 << 1,
  pkeyIndex: 1 << 2,
  port: 1 << 3,
  qkey: 1 << 4,
  /** Address of the remote port. */
  path: 1 << 5,
  pathMtu: 1 << 6,
  destQpn: 1 << 7,
  rqPsn: 1 << 8,
  maxDestRdAtomic: 1 << 9,
  minRnrTimer: 1 << 10,
  sqPsn: 1 << 11,
  timeout: 1 << 12,
  retryCount: 1 << 13,
  rnrRetry: 1 << 14,
  maxRdAtomic: 1 << 15,
} as const;

export const QP_ATTR_NAMES: readonly string[] = Object.keys(QpAttr);

interface Transition {
  readonly from: QpState;
  readonly to: QpState;
  /** Masks without `QpAttr.state`, which every transition carries. */
  readonly required: number;
  readonly optional: number;
}

const A = QpAttr;
const S = QpState;
const RC_RTR_REQUIRED =
  A.path | A.pathMtu | A.destQpn | A.rqPsn | A.maxDestRdAtomic | A.minRnrTimer;
const RC_RTS_REQUIRED = A.sqPsn | A.timeout | A.retryCount | A.rnrRetry | A.maxRdAtomic;
const RC_RTS_OPTIONAL = A.accessFlags | A.minRnrTimer;
const RC_SQD_OPTIONAL = RC_RTS_OPTIONAL | A.maxDestRdAtomic | RC_RTS_REQUIRED | A.path;

/** IBA table "QP state transition properties", reliable connection. */
const RC_TRANSITIONS: readonly Transition[] = [
  { from: S.reset, to: S.init, required: A.pkeyIndex | A.port | A.accessFlags, optional: 0 },
  { from: S.init, to: S.init, required: 0, optional: A.pkeyIndex | A.port | A.accessFlags },
  { from: S.init, to: S.rtr, required: RC_RTR_REQUIRED, optional: A.accessFlags | A.pkeyIndex },
  { from: S.rtr, to: S.rts, required: RC_RTS_REQUIRED, optional: RC_RTS_OPTIONAL },
  { from: S.rts, to: S.rts, required: 0, optional: RC_RTS_OPTIONAL },
  { from: S.rts, to: S.sqd, required: 0, optional: 0 },
  { from: S.sqd, to: S.sqd, required: 0, optional: RC_SQD_OPTIONAL },
  { from: S.sqd, to: S.rts, required: 0, optional: RC_RTS_OPTIONAL },
];

/** The same, unreliable datagram. */
const UD_TRANSITIONS: readonly Transition[] = [
  { from: S.reset, to: S.init, required: A.pkeyIndex | A.port | A.qkey, optional: 0 },
  { from: S.init, to: S.init, required: 0, optional: A.pkeyIndex | A.port | A.qkey },
  { from: S.init, to: S.rtr, required: 0, optional: A.pkeyIndex | A.qkey },
  { from: S.rtr, to: S.rts, required: A.sqPsn, optional: A.qkey },
  { from: S.rts, to: S.rts, required: 0, optional: A.qkey },
  { from: S.rts, to: S.sqd, required: 0, optional: 0 },
  { from: S.sqd, to: S.sqd, required: 0, optional: A.pkeyIndex | A.qkey },
  { from: S.sqd, to: S.rts, required: 0, optional: A.qkey },
  { from: S.sqe, to: S.rts, required: 0, optional: A.qkey },
];

export const TransitionCheck = {
  ok: 0,
  /** The state diagram has no such edge. */
  illegal: 1,
  /** A required attribute is missing. */
  missing: 2,
  /** An attribute is present that this transition may not change. */
  unexpected: 3,
} as const;

/**
 * Whether a queue pair of `type` may go from `from` to `to` with the attributes in `mask` (a sum of
 * {@link QpAttr}). Any state may go to RESET or ERR, with no other attribute.
 */
export function checkTransition(type: QpType, from: QpState, to: QpState, mask: number): number {
  const given = mask & ~A.state;
  if (to === S.reset || to === S.error) {
    return given === 0 ? TransitionCheck.ok : TransitionCheck.unexpected;
  }
  const table = type === QpType.rc ? RC_TRANSITIONS : UD_TRANSITIONS;
  for (const edge of table) {
    if (edge.from !== from || edge.to !== to) continue;
    if ((edge.required & ~given) !== 0) return TransitionCheck.missing;
    if ((given & ~(edge.required | edge.optional)) !== 0) return TransitionCheck.unexpected;
    return TransitionCheck.ok;
  }
  return TransitionCheck.illegal;
}

/** Names of the attributes in a mask, for messages. */
export function attributeNames(mask: number): string[] {
  return QP_ATTR_NAMES.filter((_, bit) => (mask & (1 << bit)) !== 0);
}

/** Attributes that the transition requires and `mask` lacks. 0 where the edge does not exist. */
export function missingAttributes(type: QpType, from: QpState, to: QpState, mask: number): number {
  const table = type === QpType.rc ? RC_TRANSITIONS : UD_TRANSITIONS;
  const edge = table.find((candidate) => candidate.from === from && candidate.to === to);
  return edge === undefined ? 0 : edge.required & ~mask;
}
