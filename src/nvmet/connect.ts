/**
 * The Connect command: turns a transport's connection into a queue of a controller. Until then a
 * queue takes this command alone. NVM Express Base Specification 2.0, sections 6.3 and 3.3.
 *
 * Invariant: a queue is adopted by a controller, or its Connect is answered with a status that says
 * which field was wrong (IATTR, IPO).
 */

import { NVMET_QUEUE_DEPTH_MAX, PeerlaneError, sameBytes } from "../core/index.ts";
import { NvmeStatus, STATUS_DNR } from "../spec/nvme/index.ts";
import {
  AUTHREQ_ATR,
  CNTLID_DYNAMIC,
  CONNECT_DATA_BYTES,
  ConnectAttribute,
  type ConnectData,
  ConnectDataOffset,
  decodeConnectData,
  FABRICS_OPCODE,
  FabricsSc,
  FabricsSqe,
  FabricsType,
  nqnProblem,
} from "../spec/nvmf/index.ts";
import { Event } from "../trace/index.ts";
import { receivedData } from "./admin/data.ts";
import { moverOf } from "./channel.ts";
import { Controller, type ControllerServices } from "./controller.ts";
import { fabricsStatus } from "./fabrics.ts";
import { checkLength } from "./parse.hot.ts";
import type { Port } from "./port.ts";
import type { CommandHandler, TargetQueue } from "./queue.hot.ts";
import type { TargetRequest } from "./request.hot.ts";
import type { Subsystem } from "./subsystem.ts";

/** What Connect needs of the target. */
export interface ConnectServices extends ControllerServices {
  port(id: number): Port | null;
  /** The controller of a subsystem with this identifier, and none that is ending. */
  controller(subsystem: Subsystem, cntlid: number): Controller | null;
  controllerMade(controller: Controller): void;
}

/** IPO in the command. */
const inCommand = (offset: number): number => offset;
/** IPO in the data: IATTR bit 0. */
const inData = (offset: number): number => offset | (1 << 16);

/** SQHD of a queue without flow control. */
const SQHD_NONE = 0xffff;

export class ConnectHandler implements CommandHandler {
  private readonly services: ConnectServices;

  constructor(services: ConnectServices) {
    this.services = services;
  }

  command(queue: TargetQueue, request: TargetRequest): void {
    const { view, capsuleBase } = request;
    const isConnect =
      request.opcode === FABRICS_OPCODE &&
      view.getUint8(capsuleBase + FabricsSqe.FCTYPE) === FabricsType.CONNECT;
    if (!isConnect) {
      queue.complete(request, NvmeStatus.commandSequenceError | STATUS_DNR);
      return;
    }
    const recfmt = view.getUint16(capsuleBase + FabricsSqe.RECFMT, true);
    if (recfmt !== 0) {
      queue.complete(request, fabricsStatus(FabricsSc.CONNECT_INCOMPATIBLE_FORMAT));
      return;
    }
    const status = checkLength(request, CONNECT_DATA_BYTES);
    if (status === NvmeStatus.success) {
      // The one data transfer before there is a controller: from the NIC's host buffers.
      const mover = moverOf(queue.origin);
      if (mover !== null) queue.controlPool = this.services.orchestrator.controlPool(mover);
      queue.fetchForHandler(request);
    } else queue.complete(request, status);
  }

  commandData(queue: TargetQueue, request: TargetRequest): void {
    const bytes = receivedData(queue, request);
    if (bytes === null) {
      queue.complete(request, NvmeStatus.dataTransferError);
      return;
    }
    const data = decodeConnectData(bytes);
    const qid = request.view.getUint16(request.capsuleBase + FabricsSqe.CONNECT_QID, true);
    const subsystem = this.findSubsystem(queue, request, data);
    if (subsystem === null) return;
    if (qid === 0) this.connectAdmin(queue, request, data, subsystem);
    else this.connectIo(queue, request, data, subsystem, qid);
  }

  /** The subsystem, when this host may have it here; else the command is answered. */
  private findSubsystem(
    queue: TargetQueue,
    request: TargetRequest,
    data: ConnectData,
  ): Subsystem | null {
    const { secure } = queue.origin;
    const isOwnName = secure === undefined || secure.hostNqn === data.hostNqn;
    if (nqnProblem(data.hostNqn) !== null || !isOwnName) {
      return invalid(queue, request, inData(ConnectDataOffset.HOSTNQN));
    }
    if (secure !== undefined && secure.subsystemNqn !== data.subsystemNqn) {
      return invalid(queue, request, inData(ConnectDataOffset.SUBNQN));
    }
    const port = this.services.port(queue.origin.portId);
    const found = [...(port?.subsystems ?? [])].find((subsystem) =>
      subsystem.answersTo(data.subsystemNqn),
    );
    if (found === undefined) {
      return invalid(queue, request, inData(ConnectDataOffset.SUBNQN));
    }
    if (found.mayConnect(data.hostNqn)) return found;
    queue.complete(request, fabricsStatus(FabricsSc.CONNECT_INVALID_HOST));
    return null;
  }

  /** Entries of the queue, or 0 after answering. */
  private depthOf(queue: TargetQueue, request: TargetRequest): number {
    const at = request.capsuleBase + FabricsSqe.CONNECT_SQSIZE;
    const depth = request.view.getUint16(at, true) + 1;
    const max = Math.min(queue.origin.depthMax, NVMET_QUEUE_DEPTH_MAX);
    if (depth >= 2 && depth <= max) return depth;
    invalid(queue, request, inCommand(FabricsSqe.CONNECT_SQSIZE));
    return 0;
  }

  private connectAdmin(
    queue: TargetQueue,
    request: TargetRequest,
    data: ConnectData,
    subsystem: Subsystem,
  ): void {
    if (data.cntlid !== CNTLID_DYNAMIC) {
      invalid(queue, request, inData(ConnectDataOffset.CNTLID));
      return;
    }
    if (!this.qidFits(queue, request, 0)) return;
    const depth = this.depthOf(queue, request);
    if (depth === 0) return;
    const cntlid = subsystem.takeCntlid();
    const port = this.services.port(queue.origin.portId);
    if (cntlid < 0 || port === null) {
      queue.complete(request, fabricsStatus(FabricsSc.CONNECT_CONTROLLER_BUSY));
      return;
    }
    queue.qid = 0;
    const options = {
      cntlid,
      subsystem,
      port,
      hostNqn: data.hostNqn,
      hostId: data.hostId,
      keepAliveMs: request.dword(FabricsSqe.CONNECT_KATO),
      adminQueue: queue,
    };
    const controller = orNoMemory(queue, request, () => new Controller(options, this.services));
    if (controller === null) return;
    this.services.controllerMade(controller);
    this.accept(queue, request, depth, controller);
  }

  private connectIo(
    queue: TargetQueue,
    request: TargetRequest,
    data: ConnectData,
    subsystem: Subsystem,
    qid: number,
  ): void {
    const controller = this.services.controller(subsystem, data.cntlid);
    if (controller === null || controller.port.id !== queue.origin.portId) {
      invalid(queue, request, inData(ConnectDataOffset.CNTLID));
      return;
    }
    if (controller.hostNqn !== data.hostNqn) {
      invalid(queue, request, inData(ConnectDataOffset.HOSTNQN));
      return;
    }
    if (!sameBytes(controller.hostId, data.hostId)) {
      invalid(queue, request, inData(ConnectDataOffset.HOSTID));
      return;
    }
    if (qid > controller.queuesGranted || !this.qidFits(queue, request, qid)) {
      invalid(queue, request, inCommand(FabricsSqe.CONNECT_QID));
      return;
    }
    if (!controller.properties.isReady || controller.ioQueues.has(qid)) {
      queue.complete(request, NvmeStatus.commandSequenceError | STATUS_DNR);
      return;
    }
    const depth = this.depthOf(queue, request);
    if (depth === 0) return;
    queue.qid = qid;
    const isAdopted = orNoMemory(queue, request, () => {
      controller.adopt(queue);
      return true;
    });
    if (isAdopted === null) {
      queue.qid = 0;
      return;
    }
    this.accept(queue, request, depth, controller);
  }

  /** The transport may have been told the identifier when the connection was made. */
  private qidFits(queue: TargetQueue, request: TargetRequest, qid: number): boolean {
    const told = queue.origin.qid;
    if (told < 0 || told === qid) return true;
    if (qid === 0) invalid(queue, request, inCommand(FabricsSqe.CONNECT_QID));
    return false;
  }

  private accept(
    queue: TargetQueue,
    request: TargetRequest,
    depth: number,
    controller: Controller,
  ): void {
    const cattr = request.view.getUint8(request.capsuleBase + FabricsSqe.CONNECT_CATTR);
    queue.depth = depth;
    queue.sqHead = 0;
    queue.hasFlowControl = ConnectAttribute.disableSqFlowControl.get(cattr) === 0;
    if (!queue.hasFlowControl) queue.sqHead = SQHD_NONE;
    request.result0 = controller.cntlid | (queue.needsAuth ? AUTHREQ_ATR : 0);
    const { trace } = this.services;
    if (trace.on) trace.emit(Event.nvmetConnect, controller.cntlid, queue.qid, depth);
    queue.complete(request, NvmeStatus.success);
  }

  commandFailed(): void {
    // There is no controller yet whose error log could have it.
  }

  idle(): void {
    // Only a queue with a controller can be asked to leave.
  }

  drained(queue: TargetQueue): void {
    this.services.queueGone(queue);
  }
}

/** Connect Invalid Parameters with the offset of the wrong field. */
function invalid(queue: TargetQueue, request: TargetRequest, ipo: number): null {
  request.result0 = ipo;
  queue.complete(request, fabricsStatus(FabricsSc.CONNECT_INVALID_PARAMETERS));
  return null;
}

/**
 * What `make` makes; null when there was no memory for its buffers, and the command is answered
 * with an error that another connection's end may cure.
 */
function orNoMemory<T>(queue: TargetQueue, request: TargetRequest, make: () => T): T | null {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof PeerlaneError)) throw error;
    queue.complete(request, NvmeStatus.internalError);
    return null;
  }
}
