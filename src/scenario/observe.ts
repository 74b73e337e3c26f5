/**
 * What a run did, read off the machine after it: verdicts of the rules for the staging memory,
 * routes of both initiators to it, bytes over links and through host memory, the orchestrator's
 * counters.
 */

import { type Bdf, formatBdf, hex } from "../core/index.ts";
import type { HopLink, RouteReport } from "../fabric/index.ts";
import type { ProviderChoice } from "../nvmet/index.ts";
import type { Provider, Verdict } from "../p2p/index.ts";
import type { PreparedMachine } from "./prepare.ts";
import type {
  HostMemoryReport,
  IoReport,
  LinkReport,
  PermittedReport,
  RouteLegReport,
  RunOutcome,
  RunReport,
} from "./report.ts";
import type { Rig } from "./rig.ts";
import type { DescriptionName } from "./schema.ts";

type Observed = Omit<RunReport, "description" | "digest" | "gpu" | "io" | "cpu">;

export function observeRun(
  rig: Rig,
  prepared: PreparedMachine,
  description: DescriptionName,
  io: IoReport,
): Observed {
  const { assembly } = rig;
  const { counters } = assembly.orchestrator;
  const choice = assembly.orchestrator.choices()[0] ?? null;
  const provider =
    choice?.provider === null || choice === null ? null : providerOf(rig, choice.provider);
  const outcome = outcomeOf(io, counters.fallbackCount);
  return {
    outcome,
    summary: summarize(description, outcome, provider, choice, io),
    stagedIn: provider === null ? "host memory" : placeOf(provider),
    permitted: description === "host-memory" ? [] : permitted(rig, prepared, provider),
    routes: routes(rig, prepared, provider),
    links: links(rig, prepared),
    hostMemory: hostMemory(rig),
    counters: counters.inspect(),
  };
}

function outcomeOf(io: IoReport, fallbacks: number): RunOutcome {
  if (io.errors > 0) return "refused";
  return fallbacks > 0 ? "fell-back" : "completed";
}

function providerOf({ assembly }: Rig, owner: Bdf): Provider | null {
  return assembly.registry.providers().find((provider) => provider.owner === owner) ?? null;
}

const placeOf = ({ owner, bar }: Provider): string => `${formatBdf(owner)} BAR${bar}`;

function summarize(
  description: DescriptionName,
  outcome: RunOutcome,
  provider: Provider | null,
  choice: ProviderChoice | null,
  io: IoReport,
): string {
  if (outcome === "refused" && provider !== null) {
    const status = io.firstError ?? "unknown";
    return (
      `I/O failed with "${status}": payload was staged in ${placeOf(provider)}; ` +
      "see the routes."
    );
  }
  if (description === "host-memory") return "Payload is staged in host memory: no peer is asked.";
  const why = choice?.text ?? "no provider was chosen";
  if (outcome === "refused") return `Refused by policy: ${why}`;
  if (outcome === "fell-back") return `Fell back to host memory, as the policy allows: ${why}`;
  if (provider === null) return `Payload is staged in host memory: ${why}`;
  return `Payload is staged in ${placeOf(provider)} and moves from peer to peer.`;
}

/** The rules' answer for NIC and SSD, of the chosen provider or of the one that came closest. */
function permitted(
  { assembly }: Rig,
  { devices }: PreparedMachine,
  provider: Provider | null,
): PermittedReport[] {
  const clients = [devices.nic, devices.ssd];
  const closest = provider ?? assembly.registry.find(clients).candidates[0]?.provider ?? null;
  if (closest === null) return [];
  return clients.map((client) => permittedReport(assembly.rules.verdict(closest.owner, client)));
}

export function permittedReport(verdict: Verdict): PermittedReport {
  return {
    provider: formatBdf(verdict.provider),
    client: formatBdf(verdict.client),
    ruleSet: verdict.ruleSet,
    mapType: verdict.mapType,
    distance: verdict.distance,
    reason: verdict.reason,
    text: verdict.text,
    evidence: verdict.evidence.map(({ bdf, register, decoded }) =>
      bdf === null ? `${register}: ${decoded}` : `${formatBdf(bdf)} ${register}: ${decoded}`,
    ),
    remedies: verdict.remedies.map(({ text, command }) =>
      command === null ? text : `${text} ${command}`,
    ),
  };
}

/** Where requests of both initiators to the staging memory go. */
function routes(rig: Rig, prepared: PreparedMachine, provider: Provider | null): RouteLegReport[] {
  const staged = stagingAddress(rig, provider);
  if (staged === null) return [];
  const { nic, ssd } = prepared.devices;
  const legs: RouteLegReport[] = [];
  for (const [bdf, role, direction] of [
    [nic, "nic", "write"],
    [nic, "nic", "read"],
    [ssd, "ssd", "read"],
    [ssd, "ssd", "write"],
  ] as const) {
    // A controller that copies from its own memory sends nothing to the bus.
    if (provider?.owner === bdf) continue;
    legs.push(legReport(rig.fabric.route(bdf, staged, direction), role));
  }
  return legs;
}

/**
 * The bus address of the staging memory; null behind an IOMMU, where each initiator has its own.
 */
function stagingAddress({ fabric }: Rig, provider: Provider | null): number | null {
  if (provider !== null) return provider.busAt(0);
  if (fabric.iommu !== null) return null;
  return fabric.hostMemoryTraffic().find(({ purpose }) => purpose === "payload")?.base ?? null;
}

const ROLE_NAMES: Readonly<Record<string, string>> = {
  "root-complex": "root complex",
  iommu: "IOMMU",
  "host-memory": "host memory",
  "interrupt-controller": "interrupt controller",
};

export function legReport(route: RouteReport, role: string): RouteLegReport {
  return {
    initiator: formatBdf(route.initiator),
    role,
    direction: route.direction,
    address: hex(route.address),
    outcome: route.statusName,
    viaRootComplex: route.viaRootComplex,
    hops: route.hops.map((hop) => ({
      at: hop.bdf === null ? (ROLE_NAMES[hop.role] ?? hop.role) : formatBdf(hop.bdf),
      role: hop.role,
      decision: hop.decision,
      reason: hop.reason,
      link: hop.link === null ? null : formatHopLink(hop.link),
    })),
  };
}

const formatHopLink = ({ generation, width }: HopLink): string => `gen${generation} x${width}`;

/** Links that carried payload, the busiest first. */
export function links(
  { fabric }: Pick<Rig, "fabric">,
  { machine }: Pick<PreparedMachine, "machine">,
): LinkReport[] {
  const facts = new Map(machine.functions.map(({ bdf, pcie }) => [bdf, pcie?.link ?? null]));
  const byPort = new Map<Bdf, { down: number; up: number }>();
  for (const { upper, towardsRoot, payloadBytes } of fabric.linkTraffic()) {
    const sums = byPort.get(upper) ?? { down: 0, up: 0 };
    if (towardsRoot) sums.up += payloadBytes;
    else sums.down += payloadBytes;
    byPort.set(upper, sums);
  }
  return [...byPort]
    .filter(([, { down, up }]) => down + up > 0)
    .sort(([a, x], [b, y]) => y.down + y.up - (x.down + x.up) || a - b)
    .map(([upper, { down, up }]) => ({
      link: `below ${formatBdf(upper)}`,
      generation: facts.get(upper)?.generation ?? 0,
      width: facts.get(upper)?.width ?? 0,
      downBytes: down,
      upBytes: up,
    }));
}

/** Bytes into and out of host memory, payload and control apart. */
export function hostMemory({ fabric }: Pick<Rig, "fabric">): HostMemoryReport {
  const report = { payloadIn: 0, payloadOut: 0, controlIn: 0, controlOut: 0 };
  for (const { purpose, readBytes, writtenBytes } of fabric.hostMemoryTraffic()) {
    if (purpose === "payload") {
      report.payloadIn += writtenBytes;
      report.payloadOut += readBytes;
    } else {
      report.controlIn += writtenBytes;
      report.controlOut += readBytes;
    }
  }
  return report;
}
