/**
 * Runs a scenario: the same workload once per description, each on machines built afresh, and
 * reports what was allowed, which way the bytes took, and what the owner of the medium holds in the
 * end.
 */

import { Prng, Span } from "../core/index.ts";
import type { Machine } from "../machine/index.ts";
import { mapHostMemory } from "../memory/index.ts";
import type { HostBuffer, HostQueue } from "../nvmet/index.ts";
import { sha256 } from "../platform/index.ts";
import { formatStatus, NvmOpcode } from "../spec/nvme/index.ts";
import { runGpuScenario } from "./gpu/run.ts";
import type { AnyScenario } from "./load.ts";
import { moment, type RunContext, since } from "./measure.ts";
import { observeRun } from "./observe.ts";
import { planWorkload } from "./plan.ts";
import { type PreparedMachine, prepareMachine } from "./prepare.ts";
import type {
  CpuGroupReport,
  CpuReport,
  DigestReport,
  IoReport,
  RunReport,
  ScenarioReport,
} from "./report.ts";
import { buildRig, type Rig } from "./rig.ts";
import type { DescriptionName, Scenario } from "./schema.ts";
import { describeDevices, describeMachine } from "./subjects.ts";
import { WorkloadPhase, type WorkloadPlan } from "./workload.hot.ts";

/** Reactor rounds between two reports of progress. */
const ROUNDS_PER_REPORT = 256;
/** I/Os that a run makes before it is timed, in whole passes over the workload. */
const WARM_UP_IOS = 16_384;

/** Runs every description of the scenario on the machine of the dump. */
export async function runScenario(
  dump: Machine,
  scenario: AnyScenario,
  context: RunContext,
): Promise<ScenarioReport> {
  if (scenario.kind !== "nvmet") return runGpuScenario(dump, scenario, context);
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
    ok: runs.every(({ digest }) => digest?.equal === true),
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
  const endpoint = { queue: queue as HostQueue, nsid, depth: scenario.workload.queueDepth };
  // First untimed: memory that is touched for the first time costs page faults, and code that runs
  // for the first time is not compiled yet. The same I/O again is what is measured and counted.
  const warmUpIos = context.warmUpIos ?? WARM_UP_IOS;
  for (let done = 0; done < warmUpIos; done += 2 * plan.count) {
    runGroups(rig, plan, endpoint, source, sink, context, `${label} (warm-up)`);
  }
  rig.fabric.resetTraffic();
  const start = moment(context);
  const { io, groups } = runGroups(rig, plan, endpoint, source, sink, context, label);
  const cpu: CpuReport = { groups, ...since(start, context) };
  const readBack = region.bytes.subarray(plan.totalBytes, 2 * plan.totalBytes);
  const digest = io.errors === 0 ? digests(rig, plan, payload, readBack) : null;
  const observed = observeRun(rig, prepared, description, io);
  const report: RunReport = { description, ...observed, digest, gpu: null, io, cpu };
  await reactor.settle(host.disconnect(), "the host to disconnect");
  memory.close();
  remoteFabric.freeHost(region);
  return { report, rig };
}

interface Endpoint {
  readonly queue: HostQueue;
  readonly nsid: number;
  readonly depth: number;
}

/** Every group in turn: its writes, then its reads. */
function runGroups(
  rig: Rig,
  plan: WorkloadPlan,
  { queue, nsid, depth }: Endpoint,
  source: HostBuffer,
  sink: HostBuffer,
  context: RunContext,
  label: string,
): { io: IoReport; groups: CpuGroupReport[] } {
  const groups: CpuGroupReport[] = [];
  const writes: WorkloadPhase[] = [];
  const reads: WorkloadPhase[] = [];
  for (const group of plan.groups) {
    const before = moment(context);
    const write = new WorkloadPhase(queue, source, plan, group, NvmOpcode.write, nsid, depth);
    drive(rig, write, () => context.progress?.(label, progressOf(plan, writes, reads, write)));
    writes.push(write);
    const writeUs = since(before, context).totalUs / group.count;
    const cpu = { sizeBytes: group.size, count: group.count, writeUs };
    // Reading back blocks that were refused would only count the same refusal twice.
    if (write.errors > 0) {
      groups.push({ ...cpu, readUs: null });
      continue;
    }
    const middle = moment(context);
    const read = new WorkloadPhase(queue, sink, plan, group, NvmOpcode.read, nsid, depth);
    drive(rig, read, () => context.progress?.(label, progressOf(plan, writes, reads, read)));
    reads.push(read);
    groups.push({ ...cpu, readUs: since(middle, context).totalUs / group.count });
  }
  return { io: ioReport(writes, reads), groups };
}

function progressOf(
  plan: WorkloadPlan,
  writes: readonly WorkloadPhase[],
  reads: readonly WorkloadPhase[],
  current: WorkloadPhase,
): number {
  const ended = [...writes, ...reads].reduce((sum, phase) => sum + phase.done, 0);
  return (ended + current.done) / (2 * plan.count);
}

/** Polls until the phase is done. */
function drive({ reactor }: Rig, phase: WorkloadPhase, report: () => void): void {
  reactor.add(phase);
  while (!phase.isDone) {
    let rounds = 0;
    reactor.runUntil(() => phase.isDone || ++rounds > ROUNDS_PER_REPORT, "the workload");
    report();
  }
  reactor.remove(phase);
}

function ioReport(writes: readonly WorkloadPhase[], reads: readonly WorkloadPhase[]): IoReport {
  const sum = (phases: readonly WorkloadPhase[], of: (phase: WorkloadPhase) => number): number =>
    phases.reduce((total, phase) => total + of(phase), 0);
  const all = [...writes, ...reads];
  const failed = all.find(({ firstStatus }) => firstStatus !== 0);
  return {
    writes: sum(writes, ({ done }) => done),
    reads: sum(reads, ({ done }) => done),
    bytesWritten: sum(writes, ({ bytes }) => bytes),
    bytesRead: sum(reads, ({ bytes }) => bytes),
    errors: sum(all, ({ errors }) => errors),
    firstError: failed === undefined ? null : formatStatus(failed.firstStatus),
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
