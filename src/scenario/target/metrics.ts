/**
 * What a running target counts, as Prometheus metrics (prometheus.io/docs/practices/naming): base
 * units, `_total` on counters, labels for what one would sum over. Made when it is scraped.
 *
 * Counters of a namespace, subsystem or port go with it; a queue's with its connection.
 */

import { hex, NS_PER_S } from "../../core/index.ts";
import {
  CAUSE_NAMES,
  type CommandStats,
  LATENCY_BOUNDS_NS,
  LATENCY_KIND_NAMES,
  ROUTE_INDEX_NAMES,
  type TargetQueue,
  type TcpTraffic,
} from "../../nvmet/index.ts";
import { formatAddress } from "../../platform/index.ts";
import { AdminOpcode, NvmeStatus, NvmOpcode } from "../../spec/nvme/index.ts";
import { FABRICS_OPCODE, TCP_PDU_NAMES } from "../../spec/nvmf/index.ts";
import { Exposition, type Labels } from "../../trace/index.ts";
import type { TargetServer } from "../serve.ts";

type Samples = (readonly [Labels, number])[];

const BOUNDS_S = LATENCY_BOUNDS_NS.map((ns) => ns / NS_PER_S);

const namesOf = (table: Readonly<Record<string, number>>): Map<number, string> =>
  new Map(Object.entries(table).map(([name, code]) => [code, snake(name)]));
const snake = (name: string): string => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
const IO_NAMES = namesOf(NvmOpcode);
const ADMIN_NAMES = namesOf(AdminOpcode).set(FABRICS_OPCODE, "fabrics");
const STATUS_NAMES = namesOf(NvmeStatus);
const nameIn = (names: Map<number, string>, opcode: number): string =>
  names.get(opcode) ?? hex(opcode, 2);

/** The text of a scrape. */
export function targetMetrics(server: TargetServer): string {
  const out = new Exposition();
  const version = "Seconds since the target started.";
  const uptime = (server.clock.nowNs() - server.startedNs) / NS_PER_S;
  out.gauge("peerlane_target_uptime_seconds", version, [[{}, uptime]]);
  namespaceMetrics(out, server);
  adminMetrics(out, server);
  portMetrics(out, server);
  queueMetrics(out, server);
  orchestratorMetrics(out, server);
  return out.text();
}

interface Labelled {
  readonly labels: Labels;
  readonly stats: CommandStats;
}

function outcomes(all: readonly Labelled[], names: Map<number, string>): Samples {
  return all.flatMap(({ labels, stats }) =>
    [...stats.outcomes()].map(([opcode, status, count]) => {
      const of = { ...labels, opcode: nameIn(names, opcode), status: nameIn(STATUS_NAMES, status) };
      return [of, count] as const;
    }),
  );
}

function namespaceMetrics(out: Exposition, server: TargetServer): void {
  const all = [...server.subsystems.values()].flatMap(({ subsystem, namespaces }) =>
    [...namespaces.values()].map(({ namespace, backend }) => ({
      labels: { subsystem: subsystem.nqn, nsid: namespace.nsid },
      stats: namespace.stats,
      namespace,
      backend,
    })),
  );
  const each = (value: (one: (typeof all)[number]) => number): Samples =>
    all.map((one) => [one.labels, value(one)]);
  const name = "peerlane_target_namespace";
  out.gauge(
    `${name}_size_bytes`,
    "Size of the namespace.",
    each((one) => one.backend.sizeBytes),
  );
  out.gauge(
    `${name}_enabled`,
    "1 when hosts see the namespace, else 0.",
    each((one) => (one.namespace.enabled ? 1 : 0)),
  );
  out.gauge(
    `${name}_in_flight`,
    "I/Os that the block queue has.",
    each((one) => one.namespace.inFlight),
  );
  out.counter(
    `${name}_commands_total`,
    "I/O commands answered, by opcode and NVMe status.",
    outcomes(all, IO_NAMES),
  );
  out.counter(
    `${name}_read_bytes_total`,
    "Payload that hosts read.",
    each((one) => one.namespace.readBytes),
  );
  out.counter(
    `${name}_written_bytes_total`,
    "Payload that hosts wrote.",
    each((one) => one.namespace.writtenBytes),
  );
  out.histogram(
    `${name}_command_duration_seconds`,
    "Time from a command's capsule to its response, by kind of command.",
    BOUNDS_S,
    all.flatMap(({ labels, stats }) =>
      LATENCY_KIND_NAMES.map((kind, i) => ({
        labels: { ...labels, kind },
        counts: stats.latency[i] as Float64Array,
        sum: (stats.latencySumNs[i] as number) / NS_PER_S,
      })),
    ),
  );
}

function adminMetrics(out: Exposition, server: TargetServer): void {
  const { target } = server.assembly;
  const all: Labelled[] = [...server.subsystems.values()].map(({ subsystem }) => ({
    labels: { subsystem: subsystem.nqn },
    stats: subsystem.stats,
  }));
  const { strangers } = target;
  const discovery = target.discovery.subsystem;
  all.push({ labels: { subsystem: discovery.nqn }, stats: discovery.stats });
  all.push({ labels: { subsystem: "" }, stats: strangers });
  out.counter(
    "peerlane_target_admin_commands_total",
    "Admin and Fabrics commands answered; without a subsystem: Connect, or what came in its place.",
    outcomes(all, ADMIN_NAMES),
  );
  const { counters } = target.security;
  out.counter("peerlane_target_authentications_total", "In-band authentications by outcome.", [
    [{ outcome: "authenticated" }, counters.authenticated],
    [{ outcome: "failed" }, counters.failed],
    [{ outcome: "timed_out" }, counters.timedOut],
  ]);
  out.gauge(
    "peerlane_target_controllers",
    "Controllers that hosts have.",
    [...server.subsystems.values()].map(({ subsystem }) => [
      { subsystem: subsystem.nqn },
      subsystem.controllers.size,
    ]),
  );
}

function portMetrics(out: Exposition, server: TargetServer): void {
  const all = [...server.ports.values()].map(({ at, config, transport }) => ({
    labels: { portid: config.portid, address: formatAddress(at.address, at.port) },
    counters: transport.counters,
    traffic: transport.traffic,
    copies: transport.copies,
    connections: transport.connections,
  }));
  const each = (value: (one: (typeof all)[number]) => number): Samples =>
    all.map((one) => [one.labels, value(one)]);
  const name = "peerlane_target_port";
  out.gauge(
    `${name}_connections`,
    "Connections that are up.",
    each((one) => one.connections),
  );
  out.counter(
    `${name}_accepted_connections_total`,
    "Connections that were accepted.",
    each((one) => one.counters.accepted),
  );
  out.counter(
    `${name}_refused_connections_total`,
    "Connections refused because there were too many.",
    each((one) => one.counters.refused),
  );
  out.counter(
    `${name}_terminated_connections_total`,
    "Connections ended by a C2HTermReq, by fatal error status.",
    all.flatMap(({ labels, counters }) =>
      [...counters.terminated].map(([reason, count]) => [{ ...labels, reason }, count] as const),
    ),
  );
  out.counter(
    `${name}_stalled_connections_total`,
    "Connections ended because their host took or sent no data for too long.",
    each((one) => one.counters.stalled),
  );
  out.counter(
    `${name}_copied_bytes_total`,
    "Data copied in user space, out of the sockets' buffers and into those that go to them.",
    all.flatMap(({ labels, copies: { fromSocket, toSocket } }) => [
      [{ ...labels, direction: "receive" }, fromSocket] as const,
      [{ ...labels, direction: "transmit" }, toSocket] as const,
    ]),
  );
  const traffic = (pick: (of: TcpTraffic) => number): Samples => each((one) => pick(one.traffic));
  out.counter(
    `${name}_receive_bytes_total`,
    "Bytes received.",
    traffic((of) => of.bytesIn),
  );
  out.counter(
    `${name}_transmit_bytes_total`,
    "Bytes sent.",
    traffic((of) => of.bytesOut),
  );
  const pdus = (pick: (of: TcpTraffic) => Float64Array): Samples =>
    all.flatMap(({ labels, traffic: of }) =>
      Object.entries(TCP_PDU_NAMES).map(([code, type]) => {
        return [{ ...labels, type }, pick(of)[Number(code)] as number] as const;
      }),
    );
  out.counter(
    `${name}_receive_pdus_total`,
    "PDUs received whole, by type.",
    pdus((of) => of.received),
  );
  out.counter(
    `${name}_transmit_pdus_total`,
    "PDUs sent, by type.",
    pdus((of) => of.sent),
  );
  out.counter(
    `${name}_data_digest_errors_total`,
    "Data digests that did not match.",
    traffic((of) => of.dataDigestErrors),
  );
  out.counter(
    `${name}_backpressure_events_total`,
    "Times that a connection had to wait: reading paused, or answers waited for room to send.",
    all.flatMap(({ labels, traffic: of }) => [
      [{ ...labels, direction: "receive" }, of.readPauses] as const,
      [{ ...labels, direction: "transmit" }, of.sendStalls] as const,
    ]),
  );
}

function queueMetrics(out: Exposition, server: TargetServer): void {
  const all = [...server.assembly.target.allControllers()].flatMap((controller) => {
    const { cntlid, subsystem, port } = controller;
    const labels = { subsystem: subsystem.nqn, portid: port.id, cntlid };
    return controller.queues.map((queue) => ({
      labels: { ...labels, qid: queue.qid },
      queue,
    }));
  });
  const each = (value: (queue: TargetQueue) => number): Samples =>
    all.map(({ labels, queue }) => [labels, value(queue)]);
  const name = "peerlane_target_queue";
  out.gauge(
    `${name}_entries`,
    "Entries of the submission queue.",
    each((queue) => queue.depth),
  );
  out.gauge(
    `${name}_busy`,
    "Commands received and not answered.",
    each((queue) => queue.busy),
  );
  out.gauge(
    `${name}_payload_bytes`,
    "Bytes of payload that its commands have in buffers, its reserve aside.",
    each(({ share }) => share.payloadBytes),
  );
  out.gauge(
    `${name}_waiting`,
    "Commands that wait for memory.",
    each(({ share }) => share.waiting),
  );
  out.counter(
    `${name}_waits_total`,
    "Commands that had to wait for memory.",
    each(({ share }) => share.waits),
  );
  out.counter(
    `${name}_reserve_uses_total`,
    "Commands that used the connection's own buffer, since the shared ones had no room.",
    each(({ share }) => share.reserveUses),
  );
  out.counter(
    `${name}_commands_total`,
    "Commands answered.",
    each((queue) => queue.commands),
  );
  out.counter(
    `${name}_errors_total`,
    "Answered with an error.",
    each((queue) => queue.errors),
  );
}

function orchestratorMetrics(out: Exposition, server: TargetServer): void {
  const { counters } = server.assembly.orchestrator;
  const name = "peerlane_target_memory";
  const pools = server.assembly.orchestrator.hostPools;
  out.gauge(
    `${name}_pool_bytes`,
    "Host buffers for payload.",
    pools.flatMap(({ nic, sizeBytes, availableBytes }) => [
      [{ mover: nic, state: "used" }, sizeBytes - availableBytes] as const,
      [{ mover: nic, state: "free" }, availableBytes] as const,
    ]),
  );
  out.counter(`${name}_allocations_total`, "Buffers of I/O, by where they came from.", [
    [{ memory: "peer" }, counters.peerAllocations],
    [{ memory: "host" }, counters.hostAllocations],
    [{ memory: "capsule" }, counters.capsuleUses],
  ]);
  out.counter(
    `${name}_waits_total`,
    "I/Os that waited for memory: it was used up, or their connection had its share.",
    [[{}, counters.hostWaits]],
  );
  const causes = (values: Float64Array): Samples =>
    CAUSE_NAMES.map((cause, i) => [{ cause }, values[i] as number]);
  out.counter(
    `${name}_fallbacks_total`,
    "I/Os served from host memory in place of peer memory, as the policy allows.",
    causes(counters.fallbacks),
  );
  out.counter(
    `${name}_refusals_total`,
    "I/Os refused because there was no peer memory.",
    causes(counters.refusals),
  );
  const routes = (leg: string, values: Float64Array): Samples =>
    ROUTE_INDEX_NAMES.map((route, i) => [{ leg, route }, values[i] as number]);
  out.counter(`${name}_payload_bytes_total`, "Payload by leg and by the way it took.", [
    ...routes("network", counters.netBytes),
    ...routes("disk", counters.diskBytes),
  ]);
}
