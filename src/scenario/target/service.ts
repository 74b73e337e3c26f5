/**
 * A target with everything around it: its log, the control socket, the metrics. What
 * `peerlane target` keeps running until it is told to stop.
 */

import { UsageError } from "../../core/index.ts";
import type { Machine } from "../../machine/index.ts";
import {
  type Clock,
  type HttpAnswer,
  type LocalSockets,
  listenHttp,
  type Network,
  type StreamListener,
} from "../../platform/index.ts";
import { PROMETHEUS_CONTENT_TYPE } from "../../trace/index.ts";
import { TargetServer } from "../serve.ts";
import { ControlSocket } from "./control-socket.ts";
import { type LogLevel, TargetLog } from "./log.ts";
import { targetMetrics } from "./metrics.ts";
import type { TargetConfig } from "./schema.ts";

export interface ServiceOptions {
  readonly machine: Machine;
  readonly config: TargetConfig;
  readonly network: Network;
  readonly localSockets: LocalSockets;
  readonly clock: Clock;
  /** Takes lines of the log. */
  readonly write: (text: string) => void;
  /** It has stopped by itself. */
  readonly onError: (error: unknown) => void;
}

const EVENT_LEVELS: Readonly<Record<string, LogLevel>> = {
  connected: "info",
  closed: "info",
  refused: "warn",
  terminated: "warn",
};

export class TargetService {
  readonly server: TargetServer;
  readonly log: TargetLog;
  private control: ControlSocket | null = null;
  private metrics: StreamListener | null = null;

  private constructor(server: TargetServer, log: TargetLog) {
    this.server = server;
    this.log = log;
  }

  /** Throws what starting the target, and listening, throw. */
  static async open(options: ServiceOptions): Promise<TargetService> {
    const { config, clock, write, machine, network, onError } = options;
    const log = new TargetLog({ ...config.log, clock, write });
    const server = await TargetServer.open({
      machine,
      config,
      network,
      clock,
      onError,
      onEvent: ({ what, peer, reason }) =>
        log.event(EVENT_LEVELS[what] ?? "info", what, { peer, ...(reason ? { reason } : {}) }),
      onAuthentication: ({ what, hostNqn, subsystemNqn, qid, peer, reason }) =>
        log.event(what === "authenticated" ? "info" : "warn", what, {
          peer,
          host: hostNqn,
          subsystem: subsystemNqn,
          qid,
          ...(reason ? { reason } : {}),
        }),
    });
    const service = new TargetService(server, log);
    try {
      await service.listen(options);
    } catch (error) {
      await service.close();
      throw error;
    }
    return service;
  }

  private async listen({ config, localSockets, clock }: ServiceOptions): Promise<void> {
    const { control, metrics } = config;
    if (control !== undefined) {
      const context = {
        server: this.server,
        setLogLevel: (level: LogLevel): void => {
          this.log.level = level;
        },
        changed: (method: string): void => this.log.event("info", "changed", { method }),
      };
      this.control = await ControlSocket.open(localSockets, control, context, clock);
    }
    if (metrics !== undefined) {
      this.metrics = await listenHttp(parseMetrics(metrics), (path) => this.answer(path));
    }
  }

  /** Where metrics are served; null: nowhere. */
  get metricsAt(): { readonly address: string; readonly port: number } | null {
    return this.metrics?.at ?? null;
  }

  private answer(path: string): HttpAnswer {
    if (path === "/metrics") {
      return { status: 200, type: PROMETHEUS_CONTENT_TYPE, body: targetMetrics(this.server) };
    }
    const body = "see /metrics\n";
    return { status: path === "/" ? 200 : 404, type: "text/plain; charset=utf-8", body };
  }

  /** Stops listening first, then ends what is there. */
  async close(): Promise<void> {
    await this.control?.close();
    await this.metrics?.close();
    await this.server.close();
  }
}

/** Port 0 is any free one. */
function parseMetrics(text: string): { address: string; port: number } {
  const at = text.lastIndexOf(":");
  const port = Number(text.slice(at + 1));
  if (port > 0xffff) {
    throw new UsageError("bad-listen", `"${text}" is no address to listen on`, {
      remedy: "write 127.0.0.1:9100 or [::1]:9100",
    });
  }
  return { address: text.slice(0, at).replace(/^\[(.*)\]$/, "$1"), port };
}
