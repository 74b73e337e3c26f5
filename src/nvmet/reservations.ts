/**
 * The reservations of one namespace while the target runs: the present state, where it is kept
 * through a loss of power, and Reservation Report. What the commands mean is in
 * reservation-state.ts.
 *
 * Invariant: a change of a state that persists is on stable media before it takes effect; when that
 * fails, nothing has changed and the command says so.
 */

import { hexDigits, type Inspectable, PeerlaneError, type Tree } from "../core/index.ts";
import {
  allocateStruct,
  NvmeStatus,
  REGISTERED_CONTROLLER_EXTENDED,
  RESERVATION_HOLDER,
  RESERVATION_STATUS,
  RESERVATION_STATUS_EXTENDED_BYTES,
  ReservationType,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { CNTLID_DYNAMIC } from "../spec/nvmf/index.ts";
import {
  conflictsOf,
  executeReservation,
  isHolder,
  NO_RESERVATION,
  type ReservationCommand,
  type ReservationOutcome,
  type ReservationState,
} from "./reservation-state.ts";

/** Where the reservations of one namespace are kept through a loss of power. */
export interface ReservationStore {
  /** What was saved last; null: nothing. */
  load(): string | null;
  /** On stable media, whole or not at all, before it returns; throws when it is not. */
  save(text: string): void;
}

/** Version of the text that a store holds. */
const FORMAT = 1;
const HOST = /^[0-9a-f]{32}$/;
const KEY = /^[0-9a-f]{16}$/;

export class Reservations implements Inspectable {
  private now: ReservationState = NO_RESERVATION;
  private readonly store: ReservationStore | null;
  private saveFailures = 0;
  private lastFailure: string | null = null;

  /** Throws `bad-reservations` when what the store holds is not what was saved. */
  constructor(store: ReservationStore | null, place: string) {
    this.store = store;
    const text = store?.load() ?? null;
    if (text !== null) this.now = parseReservations(text, place);
  }

  get state(): ReservationState {
    return this.now;
  }

  get canPersist(): boolean {
    return this.store !== null;
  }

  conflictsOf(host: string): number {
    return conflictsOf(this.now, host);
  }

  execute(host: string, command: ReservationCommand): ReservationOutcome {
    const outcome = executeReservation(this.now, host, command);
    if (outcome.status !== NvmeStatus.success) return outcome;
    const status = this.change(outcome.state);
    return status === NvmeStatus.success
      ? outcome
      : { status, state: this.now, notices: [], aborted: [] };
  }

  /** Feature 83h. Returns an NVMe status. */
  setPersistence(ptpl: boolean): number {
    return this.change({ ...this.now, ptpl });
  }

  /** Makes a state the present one, saved if it persists. Returns an NVMe status. */
  private change(state: ReservationState): number {
    if (state.ptpl && this.store === null) return NvmeStatus.invalidField | STATUS_DNR;
    if (state !== this.now && (state.ptpl || this.now.ptpl)) {
      try {
        this.store?.save(formatReservations(state));
      } catch (error) {
        this.saveFailures++;
        this.lastFailure = error instanceof Error ? error.message : String(error);
        return NvmeStatus.internalError;
      }
    }
    this.now = state;
    return NvmeStatus.success;
  }

  /**
   * The Reservation Status (Extended) data structure: one entry per registrant, whose controllers
   * come and go (CNTLID FFFFh, dynamic controller model).
   */
  report(): Uint8Array {
    const { state } = this;
    const entryBytes = REGISTERED_CONTROLLER_EXTENDED.sizeBytes;
    const { bytes, view } = allocateStruct(
      RESERVATION_STATUS_EXTENDED_BYTES + state.registrants.size * entryBytes,
    );
    const { GEN, RTYPE, REGCTL, PTPLS } = RESERVATION_STATUS.fields;
    GEN.set(view, state.generation);
    RTYPE.set(view, state.type);
    REGCTL.set(view, state.registrants.size);
    PTPLS.set(view, state.ptpl ? 1 : 0);
    const { CNTLID, RCSTS, RKEY, HOSTID } = REGISTERED_CONTROLLER_EXTENDED.fields;
    let at = RESERVATION_STATUS_EXTENDED_BYTES;
    for (const [host, key] of state.registrants) {
      CNTLID.set(view, CNTLID_DYNAMIC, at);
      RCSTS.set(view, isHolder(state, host) ? RESERVATION_HOLDER : 0, at);
      bytes.set(fromHex(key).reverse(), at + RKEY.offset);
      bytes.set(fromHex(host), at + HOSTID.offset);
      at += entryBytes;
    }
    return bytes;
  }

  inspect(): Tree {
    const { generation, ptpl, type, holder, registrants } = this.now;
    return {
      generation,
      persistent: ptpl,
      type,
      holder,
      registrants: Object.fromEntries(registrants),
      saveFailures: this.saveFailures,
      lastFailure: this.lastFailure,
    };
  }
}

/** What a store keeps. A state that does not persist leaves nothing behind but that it does not. */
export function formatReservations(state: ReservationState): string {
  const kept = state.ptpl ? state : NO_RESERVATION;
  const { ptpl, type, holder, registrants } = kept;
  const saved = { format: FORMAT, ptpl, type, holder, registrants: [...registrants] };
  return `${JSON.stringify(saved)}\n`;
}

/** The state after power came back: GEN starts over. Throws `bad-reservations`. */
export function parseReservations(text: string, place: string): ReservationState {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw badFile(place, "it is no JSON");
  }
  const problem = problemOf(value);
  if (problem !== null) throw badFile(place, problem);
  const saved = value as {
    ptpl: boolean;
    type: number;
    holder: string | null;
    registrants: [string, string][];
  };
  const registrants = new Map(saved.registrants);
  return { generation: 0, ptpl: saved.ptpl, type: saved.type, holder: saved.holder, registrants };
}

function problemOf(value: unknown): string | null {
  if (typeof value !== "object" || value === null) return "it is no object";
  const { format, ptpl, type, holder, registrants } = value as Record<string, unknown>;
  if (format !== FORMAT) return `its format is not ${FORMAT}`;
  if (typeof ptpl !== "boolean") return "ptpl is not true or false";
  const last = ReservationType.exclusiveAccessAll;
  if (!(typeof type === "number" && Number.isInteger(type) && type >= 0 && type <= last)) {
    return `type is not 0 to ${last}`;
  }
  if (!Array.isArray(registrants)) return "registrants is no list";
  for (const pair of registrants) {
    const isPair = Array.isArray(pair) && pair.length === 2;
    if (!isPair || !HOST.test(String(pair[0])) || !KEY.test(String(pair[1]))) {
      return "a registrant is not a host identifier and a key";
    }
  }
  const hosts = new Set(registrants.map(([host]: [string]) => host));
  if (hosts.size !== registrants.length) return "a host is registered twice";
  const isSingle = type >= 1 && type <= ReservationType.exclusiveAccessRegistrants;
  if (isSingle ? !hosts.has(String(holder)) : holder !== null) return "the holder is wrong";
  if (type !== 0 && hosts.size === 0) return "a reservation has no registrant";
  return null;
}

function badFile(place: string, problem: string): PeerlaneError {
  return new PeerlaneError("bad-reservations", `saved reservations cannot be read: ${problem}`, {
    place,
    remedy: "restore the file from a backup, or delete it to start without reservations",
  });
}

export const toHex = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => hexDigits(byte, 2)).join("");

const fromHex = (text: string): Uint8Array =>
  Uint8Array.from({ length: text.length / 2 }, (_, i) =>
    Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
  );
