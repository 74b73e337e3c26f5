/**
 * Runs a scenario: the same workload once per description, each on machines built afresh, and reports
 * what was allowed, which way the bytes took, and what the owner of the medium holds in the end.
 */

import { Prng, Span } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import { mapHostMemory } from "../memory/index.ts";
import { type Clock, type Host, sha256 } from "../platform/index.ts";
import { formatStatus } from "../spec/nvme/index.ts";
import { observeRun } from "./observe.ts";
import { planWorkload } from "./plan.ts";
import { type PreparedMachine, prepareMachine } from "./prepare.ts";
import type { CpuReport, DigestReport, IoReport, RunReport, ScenarioReport } from "./report.ts";
import { buildRig, type Rig } from "./rig.ts";
import type { DescriptionName, Scenario } from "./schema.ts";
import { describeDevices, describeMachine } from "./subjects.ts";
import { READ_OPCODE, WorkloadPhase, type WorkloadPlan, WRITE_OPCODE } from "./workload.hot.ts";

export interface RunContext {
  readonly clock: Clock;
  readonly host: Pick<Host, "cpuTime">;
  /** Called now and then with what is going on and the part that is done, 0 to 1. */
  readonly progress?: (what: string, part: number) => void;
}

/** Reactor rounds between two reports of progress. */
const ROUNDS_PER_REPORT = 256;

/** Runs every description of the scenario on the machine of the dump. */
export async function runScenario(
  dump: Machine,
  scenario: Scenario,
  context: RunContext,
): Promise<ScenarioReport> {
  const prepared = prepareMachine(dump, scenario);
  const prng = new Prng(scenario.workload.seed);
  const plan = planWorkload(scenario, prng);
  const payload = new Uint8Array(plan.totalBytes);
  prng.fill(payload);
  const runs: RunReport[] = [];
  let kinds: Rig["modelKinds"] = new Map();
  for (const description of scenario.runs) {
    const { report, rig } = await runOnce(prepared, scenario, description, plan, payload, context);
    runs.push(report);
    kinds = rig.modelKinds;
  }
  return {
    name: scenario.name,
    about: scenario.about.trim(),
    seed: scenario.workload.seed,
    machine: describeMachine(prepared, dump),
    devices: describeDevices(prepared, runs, kinds),
    runs,
    ok: runs.every(({ outcome, digest }) => outcome === "refused" || digest?.equal === true),
  };
}

async function runOnce(
  prepared: PreparedMachine,
  scenario: Scenario,
  description: DescriptionName,
  plan: WorkloadPlan,
  payload: Uint8Array,
  context: RunContext,
): Promise<{ report: RunReport; rig: Rig }> {
  const label = `${scenario.name}: ${description}`;
  context.progress?.(label, 0);
  const rig = await buildRig(prepared, scenario, description);
  const { reactor, host, remoteFabric, remoteNic } = rig;
  const region = remoteFabric.allocateHost(2 * plan.totalBytes, 4096, "payload");
  region.bytes.set(payload, 0);
  const memory = mapHostMemory(region, [remoteNic.dma]);
  const source = await reactor.settle(host.register(memory, 0, plan.totalBytes), "registration");
  const sink = await reactor.settle(
    host.register(memory, plan.totalBytes, plan.totalBytes),
    "registration",
  );
  const [queue] = host.queues;
  const [namespace] = host.namespaces;
  const { nsid } = namespace ?? { nsid: 0 };
  const depth = scenario.workload.queueDepth;
  rig.fabric.resetTraffic();
  const writes = new WorkloadPhase(
    queue as NonNullable<typeof queue>,
    source,
    plan,
    WRITE_OPCODE,
    nsid,
    depth,
  );
  const reads = new WorkloadPhase(
    queue as NonNullable<typeof queue>,
    sink,
    plan,
    READ_OPCODE,
    nsid,
    depth,
  );
  const start = { cpu: context.host.cpuTime(), ns: context.clock.nowNs() };
  drive(rig, writes, (part) => context.progress?.(label, part / 2), plan);
  // Reading back blocks that were refused would only count the same refusal twice.
  if (writes.errors < plan.count) {
    drive(rig, reads, (part) => context.progress?.(label, 0.5 + part / 2), plan);
  }
  const end = { cpu: context.host.cpuTime(), ns: context.clock.nowNs() };
  const io = ioReport(writes, reads);
  const cpu = cpuReport(start, end, io.writes + io.reads);
  const readBack = region.bytes.subarray(plan.totalBytes, 2 * plan.totalBytes);
  const digest = io.errors === 0 ? digests(rig, plan, payload, readBack) : null;
  const observed = observeRun(rig, prepared, description, io);
  const report: RunReport = { description, ...observed, digest, io, cpu };
  await reactor.settle(host.disconnect(), "the host to disconnect");
  memory.close();
  remoteFabric.freeHost(region);
  return { report, rig };
}

/** Polls until the phase is done. */
function drive(
  { reactor }: Rig,
  phase: WorkloadPhase,
  progress: (part: number) => void,
  plan: WorkloadPlan,
): void {
  reactor.add(phase);
  while (!phase.isDone) {
    let rounds = 0;
    reactor.runUntil(() => phase.isDone || ++rounds > ROUNDS_PER_REPORT, "the workload");
    progress(phase.done / plan.count);
  }
  reactor.remove(phase);
}

function ioReport(writes: WorkloadPhase, reads: WorkloadPhase): IoReport {
  const status = writes.firstStatus || reads.firstStatus;
  return {
    writes: writes.done,
    reads: reads.done,
    bytesWritten: writes.bytes,
    bytesRead: reads.bytes,
    errors: writes.errors + reads.errors,
    firstError: status === 0 ? null : formatStatus(status),
  };
}

interface Moment {
  readonly cpu: ReturnType<RunContext["host"]["cpuTime"]>;
  readonly ns: number;
}

function cpuReport(start: Moment, end: Moment, count: number): CpuReport {
  const used = (moment: Moment): number => moment.cpu.userUs + moment.cpu.systemUs;
  const totalUs = used(end) - used(start);
  return {
    totalUs,
    perIoUs: count === 0 ? 0 : totalUs / count,
    wallMs: (end.ns - start.ns) / 1e6,
  };
}

/** The payload in order of place: as it was sent, as the medium holds it, as it came back. */
function digests(
  { ssdModel }: Rig,
  plan: WorkloadPlan,
  payload: Uint8Array,
  readBack: Uint8Array,
): DigestReport {
  const sent = sha256();
  sent.update(payload);
  const returned = sha256();
  returned.update(readBack);
  const medium = sha256();
  const span = new Span();
  const store = ssdModel.namespaces[0]?.store;
  for (let at = 0; store !== undefined && at < plan.totalBytes; at += span.length) {
    store.lend(at, plan.totalBytes - at, span);
    medium.update(span.bytes.subarray(span.offset, span.offset + span.length));
  }
  const [a, b, c] = [sent.hex(), medium.hex(), returned.hex()] as const;
  return { sent: a, onSsd: b, readBack: c, equal: a === b && b === c };
}
