/** The state of a running target for people and programs: small, and the same shape every time. */

import type { Tree } from "../../core/index.ts";
import type { TargetServer } from "../serve.ts";

const NS_PER_S = 1e9;

export function targetStatus(server: TargetServer): Tree {
  const { target } = server.assembly;
  return {
    uptimeSeconds: Math.floor((server.clock.nowNs() - server.startedNs) / NS_PER_S),
    ports: [...server.ports.values()].map(({ at, config, transport }) => ({
      portid: config.portid,
      address: at.address,
      port: at.port,
      connections: transport.connections,
      accepted: transport.counters.accepted,
      refused: transport.counters.refused,
      subsystems: config.subsystems,
    })),
    subsystems: [...server.subsystems.values()].map(({ subsystem, namespaces }) => ({
      nqn: subsystem.nqn,
      anyHost: subsystem.allowAnyHost,
      hosts: [...subsystem.allowedHosts],
      namespaces: [...namespaces.values()].map(({ config, namespace, backend }) => ({
        nsid: config.nsid,
        enabled: namespace.enabled,
        sizeBytes: backend.sizeBytes,
        path: config.device_path ?? null,
        reads: namespace.reads,
        writes: namespace.writes,
        readBytes: namespace.readBytes,
        writtenBytes: namespace.writtenBytes,
        inFlight: namespace.inFlight,
      })),
    })),
    controllers: [...target.allControllers()].map((controller) => ({
      cntlid: controller.cntlid,
      subsystem: controller.subsystem.nqn,
      host: controller.hostNqn,
      port: controller.port.id,
      ioQueues: controller.ioQueues.size,
      keepAliveMs: controller.keepAliveMs,
      peer: controller.adminQueue.origin.peer,
    })),
  };
}
