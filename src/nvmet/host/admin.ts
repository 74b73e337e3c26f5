/**
 * Fabrics and admin commands of the host, as promises that settle when the response is polled.
 * Control plane: one command at a time per object, data through a small buffer of its own.
 */

import { encodeLayout, PeerlaneError, setU64LE, viewOf } from "../../core/index.ts";
import { AdminOpcode, formatStatus, NvmeStatus, STATUS_DNR } from "../../spec/nvme/index.ts";
import {
  AUTHREQ_ASCR,
  AUTHREQ_ATR,
  CONNECT_DATA_BYTES,
  CONNECT_SQE,
  ConnectAttribute,
  type ConnectData,
  encodeConnectData,
  FABRICS_OPCODE,
  FABRICS_SC_NAMES,
  FABRICS_SCT,
  FabricsSc,
  FabricsSqe,
  FabricsType,
  PropertySize,
} from "../../spec/nvmf/index.ts";
import { type CommandOwner, HostCommand, type HostQueue, SubmitStatus } from "./queue.hot.ts";
import type { AdminBuffer } from "./transport.ts";

export interface CommandResult {
  readonly result0: number;
  readonly result1: number;
}

export interface AdminRequest {
  readonly opcode: number;
  readonly nsid?: number;
  /** CDW10 to CDW15. */
  readonly dwords?: readonly number[];
  /** Data the target returns, in bytes; it is then in the buffer. */
  readonly dataBytes?: number;
}

/** Owner of one command: turns its end into a promise. */
class Pending implements CommandOwner {
  private readonly done: (command: HostCommand) => void;
  constructor(done: (command: HostCommand) => void) {
    this.done = done;
  }
  commandDone(command: HostCommand): void {
    this.done(command);
  }
}

/** The status in words, Fabrics' own codes included. */
export function describeStatus(status: number, fabrics: boolean): string {
  const name =
    fabrics && ((status >> 8) & 7) === FABRICS_SCT ? FABRICS_SC_NAMES[status & 0xff] : null;
  return name ?? formatStatus(status);
}

/** Submits and waits. Throws `nvme-command-failed` (`details.status`, `details.result0`). */
export async function execute(
  queue: HostQueue,
  fill: (command: HostCommand) => void,
  what: string,
  fabrics = false,
): Promise<CommandResult> {
  const command = await new Promise<HostCommand>((resolve, reject) => {
    const made = new HostCommand(new Pending(resolve));
    fill(made);
    const status = queue.submit(made);
    if (status === SubmitStatus.ok) queue.kick();
    else reject(refused(queue, what, status));
  });
  if (command.status === NvmeStatus.success) return command;
  throw new PeerlaneError(
    "nvme-command-failed",
    `${what}: ${describeStatus(command.status, fabrics)}`,
    { place: `queue ${queue.qid}`, details: { status: command.status, result0: command.result0 } },
  );
}

function refused(queue: HostQueue, what: string, status: number): PeerlaneError {
  const why = status === SubmitStatus.busy ? "the queue is full" : `${queue.channel.ended}`;
  return new PeerlaneError("nvme-not-submitted", `${what} was not sent: ${why}`, {
    place: `queue ${queue.qid}`,
    remedy: "poll, or connect again",
  });
}

export interface ConnectRequest {
  readonly qid: number;
  /** Entries, not 0's based. */
  readonly depth: number;
  readonly keepAliveMs: number;
  readonly disableSqFlowControl: boolean;
  readonly data: ConnectData;
}

/** What Connect granted. */
export interface Connected {
  readonly cntlid: number;
  /** The controller takes nothing else before the queue is authenticated (ATR, ASCR). */
  readonly mustAuthenticate: boolean;
}

/** The Connect command. */
export async function connectCommand(
  queue: HostQueue,
  buffer: AdminBuffer,
  request: ConnectRequest,
): Promise<Connected> {
  encodeConnectData(request.data, buffer.bytes);
  const raw = new Uint8Array(64);
  const values = {
    FCTYPE: FabricsType.CONNECT,
    QID: request.qid,
    SQSIZE: request.depth - 1,
    CATTR: ConnectAttribute.disableSqFlowControl.set(0, request.disableSqFlowControl ? 1 : 0),
    KATO: request.keepAliveMs,
  };
  encodeLayout(CONNECT_SQE, values, raw);
  const fill = (command: HostCommand): void => {
    command.opcode = FABRICS_OPCODE;
    command.raw = raw;
    command.setData(buffer.buffer, 0, CONNECT_DATA_BYTES);
  };
  const what = `Connect to ${request.data.subsystemNqn}`;
  const { result0 } = await execute(queue, fill, what, true).catch((error: unknown) => {
    throw request.qid === 0 ? refusal(error) : error;
  });
  const mustAuthenticate = (result0 & (AUTHREQ_ATR | AUTHREQ_ASCR)) !== 0;
  return { cntlid: result0 & 0xffff, mustAuthenticate };
}

/** The code of an error that says: do not try to connect again (DNR on the Admin Queue). */
export const CONNECT_REFUSED = "connect-refused";

/**
 * For the Admin Queue alone: an I/O queue may be refused because its controller has just ended, and
 * that says nothing for good.
 */
function refusal(error: unknown): unknown {
  if (!(error instanceof PeerlaneError) || error.code !== "nvme-command-failed") return error;
  const status = Number(error.details["status"]);
  const isBusy = (status & 0xff) === FabricsSc.CONNECT_CONTROLLER_BUSY;
  if ((status & STATUS_DNR) === 0 || isBusy) return error;
  const isHost = (status & 0xff) === FabricsSc.CONNECT_INVALID_HOST;
  return new PeerlaneError(CONNECT_REFUSED, error.message, {
    ...(error.place === undefined ? {} : { place: error.place }),
    details: error.details,
    remedy: isHost
      ? "let this host's name connect, on the target, or use one that may"
      : "check the names of subsystem and host, and what the target offers at that address",
  });
}

/** Property Get; the halves of the value. */
export function propertyGet(
  queue: HostQueue,
  offset: number,
  eight = false,
): Promise<CommandResult> {
  const raw = fabricsRaw(FabricsType.PROPERTY_GET, offset, eight);
  return execute(queue, (command) => fillRaw(command, raw), "Property Get", true);
}

/** Property Set. */
export async function propertySet(queue: HostQueue, offset: number, value: number): Promise<void> {
  const raw = fabricsRaw(FabricsType.PROPERTY_SET, offset, false);
  setU64LE(viewOf(raw), FabricsSqe.PROPERTY_VALUE, value);
  await execute(queue, (command) => fillRaw(command, raw), "Property Set", true);
}

/** Disconnect, for I/O queues. */
export async function disconnectCommand(queue: HostQueue): Promise<void> {
  const raw = new Uint8Array(64);
  raw[FabricsSqe.FCTYPE] = FabricsType.DISCONNECT;
  await execute(queue, (command) => fillRaw(command, raw), "Disconnect", true);
}

function fabricsRaw(type: number, offset: number, eight: boolean): Uint8Array {
  const raw = new Uint8Array(64);
  raw[FabricsSqe.FCTYPE] = type;
  raw[FabricsSqe.PROPERTY_ATTRIB] = eight ? PropertySize.eight : PropertySize.four;
  viewOf(raw).setUint32(FabricsSqe.PROPERTY_OFST, offset, true);
  return raw;
}

function fillRaw(command: HostCommand, raw: Uint8Array): void {
  command.opcode = FABRICS_OPCODE;
  command.raw = raw;
  command.setData(null, 0, 0);
}

/** An admin command, perhaps with data from the target. */
export function adminCommand(
  queue: HostQueue,
  buffer: AdminBuffer,
  request: AdminRequest,
): Promise<CommandResult> {
  const name = Object.entries(AdminOpcode).find(([, code]) => code === request.opcode)?.[0];
  return execute(
    queue,
    (command) => {
      command.opcode = request.opcode;
      command.nsid = request.nsid ?? 0;
      for (const [i, dword] of (request.dwords ?? []).entries()) command.dwords[i] = dword;
      command.setData(buffer.buffer, 0, request.dataBytes ?? 0);
    },
    name ?? `admin command ${request.opcode}`,
  );
}
