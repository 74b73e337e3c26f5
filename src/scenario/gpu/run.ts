/**
 * Runs a GPU scenario: the same payload once per description, each on a machine built afresh. What
 * counts is what the GPU says: its own checksum over its own memory, beside that of what was sent.
 */

import {
  crc32c,
  formatBdf,
  formatBytes,
  hex,
  hexDigits,
  PeerlaneError,
  Prng,
  type Tree,
  UsageError,
  WORKLOAD_BYTES_MAX,
} from "../../core/index.ts";
import { type Machine, setAcsControl } from "../../machine/index.ts";
import { Rules, Topology, type Verdict } from "../../p2p/index.ts";
import { GpuKernel } from "../../spec/gpu/index.ts";
import { moment, type RunContext, since } from "../measure.ts";
import { hostMemory, legReport, links, permittedReport } from "../observe.ts";
import { applyHost } from "../prepare.ts";
import type {
  DeviceReport,
  GpuCheckReport,
  RouteLegReport,
  RunReport,
  ScenarioReport,
} from "../report.ts";
import { describeMachine, nameOf } from "../subjects.ts";
import { fileOf, prepareGds } from "./gds.ts";
import type { JobResult, PreparedJob } from "./job.ts";
import { prepareGpuRdma } from "./rdma.ts";
import { buildGpuRig, describeAperture, type GpuRig, type PreparedGpuMachine } from "./rig.ts";
import type { GpuRunName, GpuScenario } from "./schema.ts";
import { chooseGpuPair } from "./select.ts";
import { type GpuTarget, makeTarget } from "./target.ts";

/** What VRAM holds before the run: what is not written by it shows in the checksum. */
const POISON = 0xdb;

/** Runs every description of the scenario on the machine of the dump. */
export async function runGpuScenario(
  dump: Machine,
  scenario: GpuScenario,
  context: RunContext,
): Promise<ScenarioReport> {
  const prepared = prepare(dump, scenario);
  const payload = makePayload(scenario);
  const runs: RunReport[] = [];
  let devices: DeviceReport[] = [];
  for (const [i, run] of scenario.runs.entries()) {
    context.progress?.(`${scenario.name}: ${run}`, i / scenario.runs.length);
    const rig = await buildGpuRig(prepared, scenario);
    runs.push(await runOnce(rig, prepared, scenario, run, payload, context));
    devices = describeDevices(rig, prepared, scenario);
    if (i === 0 && scenario.gpu.aperture !== undefined) prepared.edits.push(describeAperture(rig));
  }
  return {
    name: scenario.name,
    about: scenario.about.trim(),
    seed: scenario.workload.seed,
    machine: describeMachine(prepared, dump),
    devices,
    runs,
    ok: runs.every(({ gpu }) => gpu?.equal === true),
  };
}

const payloadBytes = (scenario: GpuScenario): number =>
  scenario.kind === "gds" ? fileOf(scenario).sizeBytes : scenario.workload.size;

function makePayload(scenario: GpuScenario): Uint8Array {
  const bytes = payloadBytes(scenario);
  if (bytes > WORKLOAD_BYTES_MAX || bytes % 4 !== 0) {
    throw new UsageError("bad-workload", `the payload cannot be ${bytes} bytes`, {
      remedy: `make it a multiple of 4, up to ${formatBytes(WORKLOAD_BYTES_MAX)}`,
    });
  }
  const { requestSize, seed } = scenario.workload;
  const blockBytes = scenario.kind === "gds" ? scenario.namespace.blockBytes : 4;
  if (requestSize % blockBytes !== 0) {
    throw new UsageError("bad-workload", `${requestSize} bytes are not whole blocks`, {
      remedy: `choose a workload.requestSize that is a multiple of ${blockBytes}`,
    });
  }
  const payload = new Uint8Array(bytes);
  new Prng(seed).fill(payload);
  return payload;
}

function prepare(dump: Machine, scenario: GpuScenario): PreparedGpuMachine {
  const edits: string[] = [];
  let machine = applyHost(dump, scenario, edits);
  for (const { setAcs } of scenario.machine.edits) {
    const { function: bdf, control } = setAcs;
    edits.push(`ACS Control of ${formatBdf(bdf)} is set to ${hex(control, 4)}`);
    machine = setAcsControl(machine, bdf, control);
  }
  const isGds = scenario.kind === "gds";
  const choice = chooseGpuPair(machine, {
    gpu: scenario.gpu.function,
    partner: isGds ? scenario.ssd : scenario.nic,
    partnerKind: isGds ? "nvme" : "nic",
    apertureMin: payloadBytes(scenario),
    apart: scenario.apart,
  });
  const partner = `${isGds ? "SSD" : "NIC"} ${formatBdf(choice.partner)}`;
  const names = `GPU ${formatBdf(choice.gpu)} and ${partner}`;
  if (choice.why !== null) edits.push(`${names} were chosen: ${choice.why}`);
  if (scenario.rootComplex !== "auto") {
    return { machine, choice, rootComplex: scenario.rootComplex, edits };
  }
  const rules = new Rules(new Topology(machine));
  const trusted = rules.verdict(choice.gpu, choice.partner).route === "host-bridge";
  edits.push(
    `the root complex is taken as one that ${trusted ? "forwards" : "drops"} peer requests: ` +
      `the rules ${trusted ? "rely on that" : "do not rely on it"}`,
  );
  const policy = trusted ? "forward" : "drop";
  return { machine, choice, rootComplex: { peerWrites: policy, peerReads: policy }, edits };
}

async function runOnce(
  rig: GpuRig,
  prepared: PreparedGpuMachine,
  scenario: GpuScenario,
  run: GpuRunName,
  payload: Uint8Array,
  context: RunContext,
): Promise<RunReport> {
  const { reactor, gpu, fabric } = rig;
  const job =
    scenario.kind === "gds"
      ? await prepareGds(rig, prepared, scenario, payload)
      : await prepareGpuRdma(rig, prepared, scenario, payload);
  const verdict = rig.rules.verdict(prepared.choice.gpu, prepared.choice.partner);
  const mayFallBack = scenario.policy === "host-memory";
  let target: GpuTarget;
  try {
    target = await makeTarget(rig, job.partner, run, payload.length, mayFallBack);
  } catch (error) {
    if (!(error instanceof PeerlaneError)) throw error;
    return refusal(run, verdict, error);
  }
  if (context.warmUpIos !== 0) await pass(rig, job, target);
  // Not where it fell back to host memory: that is fresh.
  if (target.buffer.place.kind === "vram") {
    await reactor.settle(gpu.fill(target.buffer, 0, payload.length, POISON), "VRAM to be wiped");
  }
  fabric.resetTraffic();
  const start = moment(context);
  const result = await pass(rig, job, target);
  const spent = since(start, context);
  // Read before the checksum: what the GPU reads of its own memory is on no link.
  const traffic = { links: links(rig, rig), hostMemory: hostMemory(rig) };
  const check = await checkGpu(rig, target, payload);
  const report: RunReport = {
    description: run,
    outcome: result.errors > 0 ? "refused" : target.fellBack ? "fell-back" : "completed",
    summary: summarize(rig, run, target, result),
    stagedIn: target.memory.cpuAccessible ? "host memory" : placeOf(rig, target),
    permitted: run === "host-memory" ? [] : [permittedReport(verdict)],
    routes: routes(rig, prepared, scenario, target),
    ...traffic,
    digest: null,
    gpu: result.errors > 0 ? { ...check, equal: false } : check,
    io: ioReport(scenario, result),
    cpu: {
      groups: [cpuGroup(scenario, result, spent.totalUs)],
      ...spent,
    },
    counters: counters(rig),
  };
  await reactor.settle(target.close(), "the target to close");
  await job.close();
  return report;
}

/** The payload's way once, to where the GPU has it. */
async function pass(rig: GpuRig, job: PreparedJob, target: GpuTarget): Promise<JobResult> {
  await rig.reactor.settle(target.start(), "the target to be mapped");
  const result = await job.run(target);
  await rig.reactor.settle(target.finish(), "the GPU to have the payload");
  return result;
}

/** What the GPU computes over its memory, beside what was sent; and its memory itself. */
async function checkGpu(
  { gpu, gpuModel, reactor }: GpuRig,
  { buffer }: GpuTarget,
  payload: Uint8Array,
): Promise<GpuCheckReport> {
  const crc = await reactor.settle(gpu.crc32c(buffer), "the GPU's checksum");
  const sum = await reactor.settle(gpu.reduce(GpuKernel.sum64, buffer), "the GPU's sum");
  const sent = crc32c(payload);
  const seen = new Uint8Array(payload.length);
  gpuModel.vram.read(buffer.vramAt(0, payload.length), seen, 0, payload.length);
  const vramEqual = seen.every((byte, at) => byte === payload[at]);
  return {
    gpu: formatBdf(gpu.bdf),
    bytes: payload.length,
    sent: hex(sent, 8),
    computed: hex(crc, 8),
    sum64: `${hex(sum.hi, 8)}${hexDigits(sum.lo, 8)}`,
    vramEqual,
    equal: crc === sent && vramEqual,
  };
}

function placeOf({ gpu }: GpuRig, { buffer }: GpuTarget): string {
  const at = gpu.isVisible(buffer) ? `+${hex(gpu.apertureOffset(buffer))}` : "";
  return `${formatBdf(gpu.bdf)} BAR${gpu.aperture.bar}${at}`;
}

function summarize(
  rig: GpuRig,
  run: GpuRunName,
  target: GpuTarget,
  { errors, firstError }: JobResult,
): string {
  if (errors > 0) return `${errors} I/Os failed, the first with "${firstError}"; see the routes.`;
  const bounce = "Payload goes into host memory; the GPU's copy engine fetches it from there.";
  if (run === "host-memory") return bounce;
  if (target.fellBack) return `Fell back to host memory, as the policy allows. ${bounce}`;
  return `Payload goes straight into VRAM behind ${placeOf(rig, target)}.`;
}

/** Where the partner's requests to the target go. */
function routes(
  rig: GpuRig,
  { choice }: PreparedGpuMachine,
  scenario: GpuScenario,
  target: GpuTarget,
): RouteLegReport[] {
  if (target.memory.cpuAccessible || !rig.gpu.isVisible(target.buffer)) return [];
  const address = rig.gpu.aperture.busAt(rig.gpu.apertureOffset(target.buffer));
  const role = scenario.kind === "gds" ? "ssd" : "nic";
  return [legReport(rig.fabric.route(choice.partner, address, "write"), role)];
}

function refusal(run: GpuRunName, verdict: Verdict, error: PeerlaneError): RunReport {
  return {
    description: run,
    outcome: "refused",
    summary: `Refused: ${error.message}`,
    stagedIn: "nowhere",
    permitted: [permittedReport(verdict)],
    routes: [],
    links: [],
    hostMemory: { payloadIn: 0, payloadOut: 0, controlIn: 0, controlOut: 0 },
    digest: null,
    gpu: null,
    io: { writes: 0, reads: 0, bytesWritten: 0, bytesRead: 0, errors: 0, firstError: null },
    cpu: { groups: [], totalUs: 0, wallMs: 0 },
    counters: { code: error.code },
  };
}

function ioReport(scenario: GpuScenario, result: JobResult): RunReport["io"] {
  const { requests, bytes, errors, firstError } = result;
  const none = { writes: 0, reads: 0, bytesWritten: 0, bytesRead: 0, errors, firstError };
  return scenario.kind === "gds"
    ? { ...none, reads: requests, bytesRead: bytes }
    : { ...none, writes: requests, bytesWritten: bytes };
}

function cpuGroup(
  scenario: GpuScenario,
  { requests }: JobResult,
  totalUs: number,
): RunReport["cpu"]["groups"][number] {
  const each = totalUs / Math.max(1, requests);
  const isGds = scenario.kind === "gds";
  return {
    sizeBytes: scenario.workload.requestSize,
    count: requests,
    writeUs: isGds ? null : each,
    readUs: isGds ? each : null,
  };
}

function counters({ gpu, gpuModel }: GpuRig): Tree {
  const { channels } = gpuModel.inspect();
  return {
    vramResidentBytes: gpuModel.vram.residentBytes,
    channels,
    exports: gpu.inspect()["exports"],
  };
}

function describeDevices(
  { models }: GpuRig,
  { machine, choice }: PreparedGpuMachine,
  scenario: GpuScenario,
): DeviceReport[] {
  const rows = [
    [choice.gpu, "GPU"],
    [choice.partner, scenario.kind === "gds" ? "SSD" : "NIC"],
  ] as const;
  return rows.map(([bdf, kind]) => {
    const fn = machine.functions.find((one) => one.bdf === bdf);
    const name = fn === undefined ? "" : nameOf(fn);
    return { bdf: formatBdf(bdf), kind, name, model: models.get(bdf)?.kind ?? "" };
  });
}
