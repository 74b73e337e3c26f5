/**
 * The controller's side of DH-HMAC-CHAP on one queue. NVM Express Base Specification 2.0, section
 * 8.13.5.
 *
 *     idle -Negotiate-> challenge -(taken)-> reply -Reply-> success1 -(taken)-> done
 *                                                                    \-> success2 -Success2-> done
 *     any violation -> failure1 -(taken)-> over        Failure2 -> over
 *
 * Messages of the host come by `receive`, what the host fetches goes by `take`. A new Negotiate in
 * `done` authenticates again, while the queue goes on.
 *
 * Invariants: `authenticated` is told once per exchange, after the host has proved its key (and has
 * accepted ours, when it asked); a response is compared in constant time; a challenge is used once.
 *
 * Leaves out: secure channel concatenation (SC_C is refused), other protocols than DH-HMAC-CHAP.
 */

import {
  DhExchange,
  type DhGroupName,
  dhBytes,
  HASH_BYTES,
  type HashName,
  sameSecret,
} from "../../platform/index.ts";
import {
  AUTH_FAILURE_BYTES,
  AuthFailure,
  AuthId,
  AuthType,
  type DhchapReply,
  decodeAuthHeader,
  decodeNegotiate,
  decodeReply,
  describeAuthFailure,
  encodeAuthFailure,
  encodeChallenge,
  encodeSuccess1,
  SUCCESS2_BYTES,
} from "../../spec/nvmf/index.ts";
import { type DhGroup, dhchapResponse, groupId, HASH_IDS } from "./dhchap.ts";
import { DHCHAP_GROUPS, DHCHAP_HASHES, type HostKeys, type HostSecurity } from "./host-security.ts";
import type { Secret } from "./keys.ts";

export interface AuthParties {
  readonly hostNqn: string;
  readonly subsystemNqn: string;
}

/** Told how an exchange ends. */
export interface AuthListener {
  authenticated(): void;
  /** The queue must go, once what was fetched is out. */
  authenticationFailed(reason: string): void;
}

type State =
  | "idle"
  | "challenge"
  | "reply"
  | "success1"
  | "success2"
  | "done"
  | "failure1"
  | "over";

/** What an exchange has agreed on and made. */
interface Exchange {
  readonly hash: HashName;
  readonly group: DhGroup;
  readonly dh: DhExchange | null;
  readonly challenge: Uint8Array;
  readonly sequence: number;
}

const FIXED_BYTES = 16;

export class AuthResponder {
  private readonly parties: AuthParties;
  private readonly security: HostSecurity;
  private readonly listener: AuthListener;
  private state_: State = "idle";
  private transaction = 0;
  private chosen: { readonly hash: HashName; readonly group: DhGroup } | null = null;
  private exchange: Exchange | null = null;
  /** The answer to the host's challenge. */
  private response: Uint8Array | null = null;
  private failure: AuthFailure = AuthFailure.failed;

  constructor(parties: AuthParties, security: HostSecurity, listener: AuthListener) {
    this.parties = parties;
    this.security = security;
    this.listener = listener;
  }

  get state(): string {
    return this.state_;
  }

  /** An exchange has begun and not ended. */
  get isUnderWay(): boolean {
    return this.state_ !== "idle" && this.state_ !== "done";
  }

  private keys(): HostKeys {
    return this.security.get(this.parties.hostNqn) ?? {};
  }

  private fail(failure: AuthFailure): void {
    this.state_ = "failure1";
    this.failure = failure;
    this.exchange = null;
    this.response = null;
  }

  /** A message by Authentication Send: any bytes. */
  receive(bytes: Uint8Array): void {
    const header = decodeAuthHeader(bytes);
    if (this.state_ === "over" || this.state_ === "failure1") return;
    if (header === null) this.fail(AuthFailure.incorrectPayload);
    else if (header.type === AuthType.common && header.id === AuthId.negotiate) {
      this.negotiate(bytes);
    } else if (header.type === AuthType.common && header.id === AuthId.failure2) {
      this.failure2(bytes);
    } else if (header.type === AuthType.dhchap && header.id === AuthId.reply) this.reply(bytes);
    else if (header.type === AuthType.dhchap && header.id === AuthId.success2) {
      this.success2(bytes, header.transaction);
    } else this.fail(AuthFailure.incorrectMessage);
  }

  private negotiate(bytes: Uint8Array): void {
    if (this.isUnderWay) {
      this.fail(AuthFailure.incorrectMessage);
      return;
    }
    const message = decodeNegotiate(bytes);
    if (message === null) {
      this.fail(AuthFailure.incorrectPayload);
      return;
    }
    this.transaction = message.transaction;
    const { dhchap } = message;
    const { dhchapHashes = DHCHAP_HASHES, dhchapGroups = DHCHAP_GROUPS } = this.keys();
    if (message.concatenation !== 0) this.fail(AuthFailure.concatenationMismatch);
    else if (dhchap === null) this.fail(AuthFailure.protocolUnusable);
    else {
      const hash = dhchapHashes.find((each) => dhchap.hashes.includes(HASH_IDS[each]));
      const group = dhchapGroups.find((each) => dhchap.groups.includes(groupId(each)));
      if (hash === undefined) this.fail(AuthFailure.hashUnusable);
      else if (group === undefined) this.fail(AuthFailure.dhGroupUnusable);
      else {
        this.chosen = { hash, group };
        this.state_ = "challenge";
      }
    }
  }

  private reply(bytes: Uint8Array): void {
    const { exchange } = this;
    if (this.state_ !== "reply" || exchange === null) {
      this.fail(AuthFailure.incorrectMessage);
      return;
    }
    // A challenge answers once: whatever comes of it, it is not used again.
    this.exchange = null;
    const reply = decodeReply(bytes);
    // Without a challenge its sequence number means nothing, and Linux sends one all the same.
    const isWhole =
      reply !== null &&
      reply.transaction === this.transaction &&
      reply.response.length === HASH_BYTES[exchange.hash] &&
      (reply.challenge === null || reply.sequence !== 0);
    if (isWhole) this.judge(exchange, reply);
    else this.fail(AuthFailure.incorrectPayload);
  }

  private judge(exchange: Exchange, reply: DhchapReply): void {
    const { dh } = exchange;
    const dhSecret = dh?.secret(reply.dhValue) ?? null;
    // The null group goes without values; another one does not.
    if (dh === null ? reply.dhValue.length > 0 : dhSecret === null) {
      this.fail(AuthFailure.incorrectPayload);
      return;
    }
    const { dhchapKey, dhchapOtherKeys = [], dhchapCtrlKey } = this.keys();
    const common = {
      ...this.parties,
      hash: exchange.hash,
      transaction: this.transaction,
      dhSecret,
    };
    const { challenge: asked, sequence: number } = exchange;
    const isRight = (secret: Secret): boolean => {
      const input = { ...common, secret, challenge: asked, sequence: number };
      return sameSecret(dhchapResponse({ ...input, role: "HostHost" }), reply.response);
    };
    if (dhchapKey === undefined || ![dhchapKey, ...dhchapOtherKeys].some(isRight)) {
      this.fail(AuthFailure.failed);
      return;
    }
    this.response = null;
    if (reply.challenge !== null) {
      // The host wants to know us, and we have nothing to show.
      if (dhchapCtrlKey === undefined) {
        this.fail(AuthFailure.failed);
        return;
      }
      const { challenge, sequence } = reply;
      const input = { ...common, challenge, sequence, secret: dhchapCtrlKey };
      this.response = dhchapResponse({ ...input, role: "Controller" });
    }
    this.state_ = "success1";
  }

  private success2(bytes: Uint8Array, transaction: number): void {
    if (this.state_ !== "success2") this.fail(AuthFailure.incorrectMessage);
    else if (bytes.length !== SUCCESS2_BYTES || transaction !== this.transaction) {
      this.fail(AuthFailure.incorrectPayload);
    } else this.succeed();
  }

  /** The host gave up: it does not know us, or did not understand us. */
  private failure2(bytes: Uint8Array): void {
    if (!this.isUnderWay || bytes.length !== AUTH_FAILURE_BYTES) {
      this.fail(AuthFailure.incorrectMessage);
      return;
    }
    this.state_ = "over";
    this.listener.authenticationFailed(`the host refused: ${describeAuthFailure(bytes)}`);
  }

  private succeed(): void {
    this.state_ = "done";
    this.listener.authenticated();
  }

  /**
   * The message that the host fetches by Authentication Receive, when it has room for `limit`
   * bytes. Null: not even a failure message fits.
   */
  take(limit: number): Uint8Array | null {
    if (limit < AUTH_FAILURE_BYTES) return null;
    switch (this.state_) {
      case "challenge":
        if (this.chosen !== null && limit >= challengeBytes(this.chosen.hash, this.chosen.group)) {
          return this.makeChallenge(this.chosen.hash, this.chosen.group);
        }
        this.fail(AuthFailure.incorrectPayload);
        break;
      case "success1": {
        const message = this.makeSuccess1();
        if (limit >= message.length) return this.giveSuccess1(message);
        this.fail(AuthFailure.incorrectPayload);
        break;
      }
      case "failure1":
        break;
      default:
        this.fail(AuthFailure.incorrectMessage);
    }
    return this.giveFailure();
  }

  private makeChallenge(hash: HashName, group: DhGroup): Uint8Array {
    const { random } = this.security;
    const challenge = new Uint8Array(HASH_BYTES[hash]);
    random(challenge);
    const dh = group === null ? null : new DhExchange(group, random);
    const sequence = this.security.nextSequence();
    this.exchange = { hash, group, dh, challenge, sequence };
    this.state_ = "reply";
    return encodeChallenge({
      transaction: this.transaction,
      hash: HASH_IDS[hash],
      group: groupId(group),
      sequence,
      challenge,
      dhValue: dh?.publicValue ?? new Uint8Array(0),
    });
  }

  private makeSuccess1(): Uint8Array {
    const { transaction, response, chosen } = this;
    // Linux expects HL also without a response.
    const hashBytes = chosen === null ? 0 : HASH_BYTES[chosen.hash];
    return encodeSuccess1({ transaction, hashBytes, response });
  }

  private giveSuccess1(message: Uint8Array): Uint8Array {
    const isMutual = this.response !== null;
    this.response = null;
    if (isMutual) this.state_ = "success2";
    else this.succeed();
    return message;
  }

  private giveFailure(): Uint8Array {
    const { transaction, failure } = this;
    const message = encodeAuthFailure(AuthId.failure1, transaction, failure);
    this.state_ = "over";
    this.listener.authenticationFailed(describeAuthFailure(message));
    return message;
  }
}

function challengeBytes(hash: HashName, group: DhGroup): number {
  const value = group === null ? 0 : dhBytes(group satisfies DhGroupName);
  return FIXED_BYTES + HASH_BYTES[hash] + value;
}
