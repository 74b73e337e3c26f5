/**
 * The host's side of DH-HMAC-CHAP on one queue: proves its key, and with a controller key demands
 * the same of the controller. NVM Express Base Specification 2.0, section 8.13.5.
 *
 * Invariant: with a controller key the promise resolves only after the controller has proved that
 * it has it; what the target chose must be among what was offered.
 */

import { NVMET_AUTH_BYTES_MAX, PeerlaneError, viewOf } from "../../core/index.ts";
import {
  DhExchange,
  HASH_BYTES,
  type HashName,
  type Random,
  sameSecret,
} from "../../platform/index.ts";
import {
  AUTH_SECP,
  AUTH_SPSP,
  AuthFailure,
  AuthId,
  AuthType,
  type DhchapChallenge,
  decodeAuthHeader,
  decodeChallenge,
  decodeSuccess1,
  describeAuthFailure,
  encodeAuthFailure,
  encodeNegotiate,
  encodeReply,
  encodeSuccess2,
  FABRICS_OPCODE,
  FabricsSqe,
  FabricsType,
} from "../../spec/nvmf/index.ts";
import { execute } from "../host/admin.ts";
import type { HostQueue } from "../host/queue.hot.ts";
import type { AdminBuffer } from "../host/transport.ts";
import { type DhGroup, dhchapResponse, groupId, groupOfId, HASH_IDS, hashOfId } from "./dhchap.ts";
import { DHCHAP_GROUPS, DHCHAP_HASHES } from "./host-security.ts";
import type { Secret } from "./keys.ts";
import type { AuthParties } from "./responder.ts";

/** What a host authenticates with. */
export interface HostCredentials {
  /** The host's key (`--dhchap-secret` of nvme-cli). */
  readonly key: Secret;
  /** What the controller must prove to have (`--dhchap-ctrl-secret`). */
  readonly ctrlKey?: Secret;
  /** Default: all. */
  readonly hashes?: readonly HashName[];
  readonly groups?: readonly DhGroup[];
  readonly random: Random;
}

function failed(queue: HostQueue, why: string): PeerlaneError {
  return new PeerlaneError("authentication-failed", `authentication failed: ${why}`, {
    place: `queue ${queue.qid}`,
    remedy: "compare the keys on both sides: dhchap_key of this host, and dhchap_ctrl_key",
  });
}

/** One exchange. */
class Initiator {
  private readonly queue: HostQueue;
  private readonly buffer: AdminBuffer;
  private readonly credentials: HostCredentials;
  private readonly parties: AuthParties;
  private readonly transaction: number;
  private readonly hashes: readonly HashName[];
  private readonly groups: readonly DhGroup[];

  constructor(
    queue: HostQueue,
    buffer: AdminBuffer,
    credentials: HostCredentials,
    parties: AuthParties,
  ) {
    this.queue = queue;
    this.buffer = buffer;
    this.credentials = credentials;
    this.parties = parties;
    this.transaction = this.draw(2) & 0xffff;
    this.hashes = credentials.hashes ?? DHCHAP_HASHES;
    this.groups = credentials.groups ?? DHCHAP_GROUPS;
  }

  private draw(bytes: number): number {
    const drawn = new Uint8Array(4);
    this.credentials.random(drawn.subarray(0, bytes));
    return viewOf(drawn).getUint32(0, true);
  }

  async run(): Promise<void> {
    const { transaction } = this;
    const hashes = this.hashes.map((hash) => HASH_IDS[hash]);
    const groups = this.groups.map(groupId);
    await this.send(encodeNegotiate({ transaction, concatenation: 0, dhchap: { hashes, groups } }));
    const first = await this.receive(AuthId.challenge);
    const challenge = decodeChallenge(first);
    const hash = challenge === null ? null : hashOfId(challenge.hash);
    const problem = challenge === null ? "bad lengths" : this.problemOf(challenge, hash);
    if (challenge === null || hash === null || problem !== null) {
      return this.refuse(AuthFailure.incorrectPayload, `the challenge is not usable: ${problem}`);
    }
    const wanted = await this.answer(challenge, hash);
    const second = decodeSuccess1(await this.receive(AuthId.success1));
    if (second === null || second.transaction !== transaction) {
      return this.refuse(AuthFailure.incorrectPayload, "the answer to the response is garbled");
    }
    if (wanted === null) return;
    if (second.response === null || !sameSecret(second.response, wanted)) {
      return this.refuse(AuthFailure.failed, "the controller has not the key that it should have");
    }
    await this.send(encodeSuccess2(transaction));
  }

  /** What is wrong with a challenge; null: nothing. */
  private problemOf(message: DhchapChallenge, hash: HashName | null): string | null {
    const group = groupOfId(message.group);
    if (message.transaction !== this.transaction) return "it belongs to another transaction";
    if (message.sequence === 0) return "its sequence number is 0";
    if (hash === null || !this.hashes.includes(hash)) return "its hash was not offered";
    if (message.challenge.length !== HASH_BYTES[hash]) return "its length is not its hash's";
    if (group === undefined || !this.groups.includes(group)) return "its group was not offered";
    return group === null && message.dhValue.length > 0 ? "it has a DH value for no group" : null;
  }

  /** Sends the reply. Returns what the controller must answer; null: it was asked nothing. */
  private async answer(message: DhchapChallenge, hash: HashName): Promise<Uint8Array | null> {
    const { key, ctrlKey, random } = this.credentials;
    const { transaction } = this;
    const group = groupOfId(message.group) ?? null;
    const dh = group === null ? null : new DhExchange(group, random);
    const dhSecret = dh?.secret(message.dhValue) ?? null;
    if (dh !== null && dhSecret === null) {
      return this.refuse(AuthFailure.incorrectPayload, "its DH value is none");
    }
    const common = { ...this.parties, hash, transaction, dhSecret };
    const { challenge: theirs, sequence: theirSequence } = message;
    const response = dhchapResponse({
      ...common,
      secret: key,
      role: "HostHost",
      challenge: theirs,
      sequence: theirSequence,
    });
    const dhValue = dh?.publicValue ?? new Uint8Array(0);
    if (ctrlKey === undefined) {
      await this.send(
        encodeReply({ transaction, response, challenge: null, sequence: 0, dhValue }),
      );
      return null;
    }
    const challenge = new Uint8Array(HASH_BYTES[hash]);
    random(challenge);
    const sequence = this.draw(4) || 1;
    await this.send(encodeReply({ transaction, response, challenge, sequence, dhValue }));
    return dhchapResponse({ ...common, secret: ctrlKey, role: "Controller", challenge, sequence });
  }

  private async send(message: Uint8Array): Promise<void> {
    this.buffer.bytes.set(message);
    await this.command(FabricsType.AUTHENTICATION_SEND, message.length, "Authentication Send");
  }

  /** Fetches the next message, which must be this one. */
  private async receive(id: number): Promise<Uint8Array> {
    const length = NVMET_AUTH_BYTES_MAX;
    this.buffer.bytes.fill(0, 0, length);
    await this.command(FabricsType.AUTHENTICATION_RECEIVE, length, "Authentication Receive");
    const message = this.buffer.bytes.slice(0, length);
    const header = decodeAuthHeader(message);
    if (header?.type === AuthType.dhchap && header.id === id) return message;
    if (header?.type === AuthType.common && header.id === AuthId.failure1) {
      throw failed(this.queue, `the target says: ${describeAuthFailure(message)}`);
    }
    return this.refuse(AuthFailure.incorrectMessage, "the target sent another message than is due");
  }

  private async command(type: FabricsType, length: number, what: string): Promise<void> {
    const raw = new Uint8Array(64);
    raw[FabricsSqe.FCTYPE] = type;
    raw[FabricsSqe.AUTH_SPSP0] = AUTH_SPSP;
    raw[FabricsSqe.AUTH_SPSP1] = AUTH_SPSP;
    raw[FabricsSqe.AUTH_SECP] = AUTH_SECP;
    viewOf(raw).setUint32(FabricsSqe.AUTH_LENGTH, length, true);
    const fill = (command: Parameters<Parameters<typeof execute>[1]>[0]): void => {
      command.opcode = FABRICS_OPCODE;
      command.raw = raw;
      command.setData(this.buffer.buffer, 0, length);
    };
    await execute(this.queue, fill, what, true);
  }

  /** Tells the controller, then throws. */
  private async refuse(failure: AuthFailure, why: string): Promise<never> {
    const message = encodeAuthFailure(AuthId.failure2, this.transaction, failure);
    // The connection ends over this either way; what matters is the reason.
    await this.send(message).catch(() => undefined);
    throw failed(this.queue, why);
  }
}

/**
 * Authenticates a queue that is connected, with `buffer` for the messages (4 KiB or more). Throws
 * `authentication-failed`, `nvme-command-failed`, `nvme-not-submitted`.
 */
export function authenticateQueue(
  queue: HostQueue,
  buffer: AdminBuffer,
  credentials: HostCredentials,
  parties: AuthParties,
): Promise<void> {
  return new Initiator(queue, buffer, credentials, parties).run();
}
