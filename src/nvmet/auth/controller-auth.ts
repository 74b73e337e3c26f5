/**
 * Authentication of one controller's queues: which of them must, whose exchange a command belongs
 * to, who is told how it ended. One queue's exchange is in queue-auth.ts.
 *
 * A queue that need not authenticate may: its exchange begins with the first command of one.
 */

import { FABRICS_OPCODE, FabricsSc } from "../../spec/nvmf/index.ts";
import { Event, type Tracer } from "../../trace/index.ts";
import { fabricsStatus, isAuthentication } from "../fabrics.ts";
import type { KeepAliveTimer } from "../keep-alive.ts";
import type { TargetQueue } from "../queue.hot.ts";
import type { TargetRequest } from "../request.hot.ts";
import type { HostSecurity } from "./host-security.ts";
import { type AuthOwner, QueueAuthentication } from "./queue-auth.ts";
import type { AuthParties } from "./responder.ts";

/** How an authentication ended. */
export interface AuthEvent {
  readonly what: "authenticated" | "authentication-failed";
  readonly hostNqn: string;
  readonly subsystemNqn: string;
  readonly qid: number;
  readonly peer: string;
  /** Empty when it went well. */
  readonly reason: string;
}

/** The controller whose queues these are. */
export interface AuthController {
  readonly cntlid: number;
  readonly keepAlive: KeepAliveTimer;
  /** The queue's host has authenticated: it takes all commands. */
  openQueue(queue: TargetQueue): void;
  /** Its host failed: the queue goes when the answer is out. */
  shutQueue(queue: TargetQueue, reason: string): void;
}

/** What it needs of the target. */
export interface AuthServices {
  readonly security: HostSecurity;
  readonly trace: Tracer;
  readonly onAuthentication: ((event: AuthEvent) => void) | null;
  nowNs(): number;
  /** Ends a queue's connection. */
  dropQueue(queue: TargetQueue, reason: string): void;
}

export class ControllerAuthentication implements AuthOwner {
  private readonly controller: AuthController;
  private readonly parties: AuthParties;
  private readonly services: AuthServices;
  private readonly exchanges = new Map<TargetQueue, QueueAuthentication>();

  constructor(controller: AuthController, parties: AuthParties, services: AuthServices) {
    this.controller = controller;
    this.parties = parties;
    this.services = services;
  }

  get keepAliveMs(): number {
    return this.controller.keepAlive.ms;
  }

  nowNs(): number {
    return this.services.nowNs();
  }

  /** Makes the queue authenticate before anything else, when its host has a key. */
  demand(queue: TargetQueue): void {
    if (!this.services.security.mustAuthenticate(this.parties.hostNqn)) return;
    queue.needsAuth = true;
    // The time it may take runs from now.
    this.of(queue);
  }

  private of(queue: TargetQueue): QueueAuthentication {
    let exchange = this.exchanges.get(queue);
    if (exchange === undefined) {
      exchange = new QueueAuthentication(this, queue, this.parties, this.services.security);
      this.exchanges.set(queue, exchange);
    }
    return exchange;
  }

  /** Takes a command that is part of an exchange, and any other that must wait for one. */
  takes(queue: TargetQueue, request: TargetRequest): boolean {
    const isExchange = request.opcode === FABRICS_OPCODE && isAuthentication(request);
    if (isExchange) this.of(queue).command(request);
    else if (queue.needsAuth) {
      queue.complete(request, fabricsStatus(FabricsSc.AUTHENTICATION_REQUIRED));
    } else return false;
    return true;
  }

  /** The message of an Authentication Send is here. */
  commandData(queue: TargetQueue, request: TargetRequest): void {
    this.of(queue).commandData(request);
  }

  queueAuthenticated(queue: TargetQueue): void {
    queue.needsAuth = false;
    this.controller.openQueue(queue);
    this.tell(queue, "authenticated", "");
  }

  queueRefused(queue: TargetQueue, reason: string): void {
    queue.needsAuth = true;
    this.controller.shutQueue(queue, `authentication: ${reason}`);
    this.tell(queue, "authentication-failed", reason);
  }

  private tell(queue: TargetQueue, what: AuthEvent["what"], reason: string): void {
    const { trace, onAuthentication } = this.services;
    const isGood = what === "authenticated" ? 1 : 0;
    if (trace.on) trace.emit(Event.nvmetAuthentication, this.controller.cntlid, queue.qid, isGood);
    const { peer } = queue.origin;
    onAuthentication?.({ what, ...this.parties, qid: queue.qid, peer, reason });
  }

  /** Drops queues whose host is late. */
  dropLate(nowNs: number): void {
    for (const [queue, exchange] of [...this.exchanges]) {
      if (queue.isClosed || !exchange.isLate(nowNs)) continue;
      this.tell(queue, "authentication-failed", "timed out");
      this.services.dropQueue(queue, "authentication timed out");
    }
  }

  /** The queue is gone. */
  forget(queue: TargetQueue): void {
    this.exchanges.delete(queue);
  }

  /** Where the queue's exchange is; null: it has none. */
  stateOf(queue: TargetQueue): string | null {
    return this.exchanges.get(queue)?.responder.state ?? null;
  }
}
