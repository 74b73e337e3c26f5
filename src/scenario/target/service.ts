/**
 * A target with everything around it: its log, the control socket, the metrics, captures. What
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
  type RecordFiles,
  type StreamListener,
} from "../../platform/index.ts";
import { PROMETHEUS_CONTENT_TYPE } from "../../trace/index.ts";
import { Capture, type CaptureEvent } from "../capture/capture.ts";
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
  readonly recordFiles: RecordFiles;
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
  stalled: "warn",
};

export class TargetService {
  readonly server: TargetServer;
  readonly log: TargetLog;
  readonly capture: Capture;
  private control: ControlSocket | null = null;
  private metrics: StreamListener | null = null;

  private constructor(server: TargetServer, log: TargetLog, capture: Capture) {
    this.server = server;
    this.log = log;
    this.capture = capture;
  }

  /** Throws what starting the target, and listening, throw. */
  static async open(options: ServiceOptions): Promise<TargetService> {
    const { config, clock, write, machine, network, onError } = options;
    const log = new TargetLog({ ...config.log, clock, write });
    const onEvent = (event: CaptureEvent): void => logCapture(log, event);
    const capture = new Capture({ files: options.recordFiles, clock, onEvent });
    if (config.capture !== undefined) capture.start(config.capture);
    // Nothing can start one without the control socket.
    const mayRecord = config.capture !== undefined || config.control !== undefined;
    const server = await TargetServer.open({
      machine,
      config,
      network: mayRecord ? capture.around(network) : network,
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
    }).catch((error: unknown) => {
      capture.close();
      throw error;
    });
    const service = new TargetService(server, log, capture);
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
        capture: this.capture,
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
    this.capture.close();
  }
}

function logCapture(log: TargetLog, event: CaptureEvent): void {
  const { what, path, packets, bytes, reason, isUnasked } = event;
  const more = what === "capture-stopped" ? { packets, bytes, reason } : {};
  log.event(isUnasked ? "warn" : "info", what, { path, ...more });
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
