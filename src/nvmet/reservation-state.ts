/**
 * Reservations of one namespace as a state and the commands that lead from one state to the next.
 * Nothing here knows queues, controllers or files: a command is a value, and so is what follows
 * from it (the new state, who is told what, whose commands are aborted). NVM Express Base
 * Specification
 * 2.0, sections 7.2 to 7.5 and 8.19 (2.1: 7.5 to 7.8 and 8.1.22).
 *
 * A host is its Host Identifier, whatever controllers it has. Keys and identifiers are hexadecimal
 * text: they are compared, and never computed with.
 *
 * Where the specification leaves a choice: Preempt with a key that nobody has is a Reservation
 * Conflict with every type of reservation, as in Linux; Unregister by a host that is no registrant
 * succeeds when it ignores the key (IEKEY: "absence of a current reservation key does not cause an
 * error").
 */

import { NVMET_REGISTRANTS_MAX } from "../core/index.ts";
import {
  AcquireAction,
  CPTPL_CLEAR,
  CPTPL_RESERVED,
  CPTPL_SET,
  NvmeStatus,
  RegisterAction,
  ReleaseAction,
  ReservationNotice,
  ReservationType,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { GateClass } from "./gate.hot.ts";

/** 16 hexadecimal digits, lower case, most significant first. */
export type ReservationKey = string;
export const KEY_NONE: ReservationKey = "0".repeat(16);

export interface ReservationState {
  /** GEN. */
  readonly generation: number;
  /** Persist Through Power Loss. */
  readonly ptpl: boolean;
  /** Of {@link ReservationType}; 0: there is no reservation. */
  readonly type: number;
  /** Null: none, or all registrants are. */
  readonly holder: string | null;
  /** Key by host, in the order of registration. */
  readonly registrants: ReadonlyMap<string, ReservationKey>;
}

export const NO_RESERVATION: ReservationState = {
  generation: 0,
  ptpl: false,
  type: 0,
  holder: null,
  registrants: new Map(),
};

export interface RegisterCommand {
  readonly kind: "register";
  readonly action: number;
  readonly ignoreKey: boolean;
  /** CPTPL. */
  readonly persist: number;
  readonly currentKey: ReservationKey;
  readonly newKey: ReservationKey;
}
export interface AcquireCommand {
  readonly kind: "acquire";
  readonly action: number;
  readonly ignoreKey: boolean;
  readonly type: number;
  readonly currentKey: ReservationKey;
  readonly preemptKey: ReservationKey;
}
export interface ReleaseCommand {
  readonly kind: "release";
  readonly action: number;
  readonly ignoreKey: boolean;
  readonly type: number;
  readonly currentKey: ReservationKey;
}
export type ReservationCommand = RegisterCommand | AcquireCommand | ReleaseCommand;

export interface ReservationOutcome {
  /** NVMe status. */
  readonly status: number;
  /** The same object when nothing changed. */
  readonly state: ReservationState;
  /** Who is told what. */
  readonly notices: readonly { readonly host: string; readonly notice: number }[];
  /** Hosts whose commands are aborted (Preempt and Abort). */
  readonly aborted: readonly string[];
}

type Notices = { host: string; notice: number }[];

const CONFLICT = NvmeStatus.reservationConflict | STATUS_DNR;
const INVALID = NvmeStatus.invalidField | STATUS_DNR;

/** True for the two types of which every registrant is a holder. */
const isAllRegistrants = (type: number): boolean =>
  type === ReservationType.writeExclusiveAll || type === ReservationType.exclusiveAccessAll;
const isRegistrantsOnly = (type: number): boolean =>
  type === ReservationType.writeExclusiveRegistrants ||
  type === ReservationType.exclusiveAccessRegistrants;
/** The types that keep reads out as well. */
const isExclusiveAccess = (type: number): boolean => type !== 0 && type % 2 === 0;
const isType = (type: number): boolean =>
  type >= ReservationType.writeExclusive && type <= ReservationType.exclusiveAccessAll;

export function isHolder(state: ReservationState, host: string): boolean {
  if (isAllRegistrants(state.type)) return state.registrants.has(host);
  return state.type !== 0 && state.holder === host;
}

/** Gate bits of what the reservation keeps this host from. NVM Command Set 1.0, section 5.5. */
export function conflictsOf(state: ReservationState, host: string): number {
  if (state.type === 0 || isHolder(state, host)) return 0;
  const isOpenToRegistrants = isRegistrantsOnly(state.type) || isAllRegistrants(state.type);
  if (isOpenToRegistrants && state.registrants.has(host)) return 0;
  const writes = GateClass.write | GateClass.flush;
  return isExclusiveAccess(state.type) ? writes | GateClass.read : writes;
}

export function executeReservation(
  state: ReservationState,
  host: string,
  command: ReservationCommand,
): ReservationOutcome {
  switch (command.kind) {
    case "register":
      return register(state, host, command);
    case "acquire":
      return acquire(state, host, command);
    default:
      return release(state, host, command);
  }
}

const failed = (state: ReservationState, status: number): ReservationOutcome => ({
  status,
  state,
  notices: [],
  aborted: [],
});

function done(
  state: ReservationState,
  notices: Notices = [],
  aborted: readonly string[] = [],
): ReservationOutcome {
  return { status: NvmeStatus.success, state, notices, aborted };
}

/** GEN is a counter of 32 bits that wraps. */
const next = (generation: number): number => (generation + 1) >>> 0;

/** A notice to every registrant but `host`. */
function toOthers(state: ReservationState, host: string, notice: number): Notices {
  const others = [...state.registrants.keys()].filter((other) => other !== host);
  return others.map((other) => ({ host: other, notice }));
}

function register(
  state: ReservationState,
  host: string,
  command: RegisterCommand,
): ReservationOutcome {
  if (command.persist === CPTPL_RESERVED) return failed(state, INVALID);
  const key = state.registrants.get(host);
  const counted: ReservationState = {
    ...state,
    generation: next(state.generation),
    ptpl: persistence(state.ptpl, command.persist),
  };
  const matches = command.ignoreKey || key === command.currentKey;
  switch (command.action) {
    case RegisterAction.register:
      if (key !== undefined && key !== command.newKey) return failed(state, CONFLICT);
      return enter(state, counted, host, command.newKey);
    case RegisterAction.replace:
      return matches ? enter(state, counted, host, command.newKey) : failed(state, CONFLICT);
    case RegisterAction.unregister: {
      if (!matches) return failed(state, CONFLICT);
      const left = withoutHosts(counted, [host]);
      // Of the others' types, holders are told nothing, or there are none left.
      const isTold = left.type === 0 && isRegistrantsOnly(state.type);
      return done(left, isTold ? toOthers(left, host, ReservationNotice.released) : []);
    }
    default:
      return failed(state, INVALID);
  }
}

function persistence(ptpl: boolean, change: number): boolean {
  if (change === CPTPL_SET) return true;
  return change === CPTPL_CLEAR ? false : ptpl;
}

function enter(
  before: ReservationState,
  state: ReservationState,
  host: string,
  key: ReservationKey,
): ReservationOutcome {
  const isFull = state.registrants.size >= NVMET_REGISTRANTS_MAX && !state.registrants.has(host);
  if (isFull) return failed(before, NvmeStatus.internalError | STATUS_DNR);
  return done({ ...state, registrants: new Map(state.registrants).set(host, key) });
}

/** Takes registrations away, and the reservation with its last holder. */
function withoutHosts(state: ReservationState, hosts: readonly string[]): ReservationState {
  const registrants = new Map(state.registrants);
  for (const host of hosts) registrants.delete(host);
  const isReleased = isAllRegistrants(state.type)
    ? registrants.size === 0
    : state.holder !== null && !registrants.has(state.holder);
  return isReleased ? { ...state, registrants, type: 0, holder: null } : { ...state, registrants };
}

/** A reservation of this type; every registrant holds those of all registrants. */
function reserved(state: ReservationState, host: string, type: number): ReservationState {
  return { ...state, type, holder: isAllRegistrants(type) ? null : host };
}

function acquire(
  state: ReservationState,
  host: string,
  command: AcquireCommand,
): ReservationOutcome {
  if (command.ignoreKey || !isType(command.type)) return failed(state, INVALID);
  if (command.action > AcquireAction.preemptAndAbort) return failed(state, INVALID);
  if (state.registrants.get(host) !== command.currentKey) return failed(state, CONFLICT);
  if (command.action !== AcquireAction.acquire) return preempt(state, host, command);
  if (state.type === 0) return done(reserved(state, host, command.type));
  const isMine = isHolder(state, host) && state.type === command.type;
  return isMine ? done(state) : failed(state, CONFLICT);
}

function preempt(
  state: ReservationState,
  host: string,
  command: AcquireCommand,
): ReservationOutcome {
  const { preemptKey, type } = command;
  const withKey = [...state.registrants]
    .filter(([, key]) => key === preemptKey)
    .map(([other]) => other);
  const takesOver = isAllRegistrants(state.type)
    ? preemptKey === KEY_NONE
    : state.holder !== null && state.registrants.get(state.holder) === preemptKey;
  let victims: readonly string[];
  if (takesOver) {
    const from = isAllRegistrants(state.type) ? [...state.registrants.keys()] : withKey;
    victims = from.filter((other) => other !== host);
  } else {
    const isHeldByOne = state.holder !== null;
    if (isHeldByOne && preemptKey === KEY_NONE) return failed(state, INVALID);
    if (withKey.length === 0) return failed(state, CONFLICT);
    victims = withKey;
  }
  const others = victims.filter((victim) => victim !== host);
  const notices: Notices = others.map((victim) => ({
    host: victim,
    notice: ReservationNotice.registrationPreempted,
  }));
  const counted = { ...state, generation: next(state.generation) };
  let after = withoutHosts(counted, victims);
  if (takesOver) {
    after = reserved(after, host, type);
    if (type !== state.type) notices.push(...toOthers(after, host, ReservationNotice.released));
  }
  const aborts = command.action === AcquireAction.preemptAndAbort;
  return done(after, notices, aborts ? others : []);
}

function release(
  state: ReservationState,
  host: string,
  command: ReleaseCommand,
): ReservationOutcome {
  if (command.ignoreKey || command.action > ReleaseAction.clear) return failed(state, INVALID);
  if (state.registrants.get(host) !== command.currentKey) return failed(state, CONFLICT);
  if (command.action === ReleaseAction.clear) {
    const cleared: ReservationState = {
      ...state,
      generation: next(state.generation),
      type: 0,
      holder: null,
      registrants: new Map(),
    };
    return done(cleared, toOthers(state, host, ReservationNotice.reservationPreempted));
  }
  if (!isHolder(state, host)) return done(state);
  if (command.type !== state.type) return failed(state, INVALID);
  const isTold = isRegistrantsOnly(state.type) || isAllRegistrants(state.type);
  const notices = isTold ? toOthers(state, host, ReservationNotice.released) : [];
  return done({ ...state, type: 0, holder: null }, notices);
}
