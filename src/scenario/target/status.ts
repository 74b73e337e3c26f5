/** The state of a running target for people and programs: small, and the same shape every time. */

import { NS_PER_S, type Tree } from "../../core/index.ts";
import type { MemoryShare } from "../../nvmet/index.ts";
import type { TargetServer } from "../serve.ts";

export function targetStatus(server: TargetServer): Tree {
  const { target } = server.assembly;
  const queues = [...target.allControllers()].flatMap((controller) => controller.queues);
  const sum = (of: (share: MemoryShare) => number): number =>
    queues.reduce((total, { share }) => total + of(share), 0);
  const { bytes, hostMemoryBytes, copiedFromSockets, copiedToSockets } = server.payload();
  return {
    uptimeSeconds: Math.floor((server.clock.nowNs() - server.startedNs) / NS_PER_S),
    memory: {
      pools: server.assembly.orchestrator.hostPools.map((pool) => ({ ...pool })),
      inFlightBytes: sum((share) => share.payloadBytes),
      waiting: sum((share) => share.waiting),
      reservesInUse: sum((share) => (share.isReserveTaken ? 1 : 0)),
    },
    payload: { bytes, hostMemoryBytes, copiedFromSockets, copiedToSockets },
    ports: [...server.ports.values()].map(({ at, config, transport }) => ({
      portid: config.portid,
      address: at.address,
      port: at.port,
      connections: transport.connections,
      accepted: transport.counters.accepted,
      refused: transport.counters.refused,
      stalled: transport.counters.stalled,
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
        backend: config.backend,
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
      keepAliveMs: controller.keepAlive.ms,
      peer: controller.adminQueue.origin.peer,
      inFlightBytes: [...controller.ioQueues.values()].reduce(
        (total, { share }) => total + share.payloadBytes,
        0,
      ),
    })),
  };
}
