/**
 * Does peer I/O survive a stacked queue, and does each leg get its own address? raid0 and multipath
 * over two NVMe controllers behind different switches; what is on the media and in the owner's
 * memory is read there.
 *
 * Each runs twice: as the description's own stack passes features on (`page`: Linux, which drops
 * the peer-to-peer feature), and with the feature passed on to all, which shows what is due to the
 * description and what to the stack.
 */

import {
  BioOp,
  BlockStatus,
  blockStatusName,
  type FeatureInheritance,
  MultipathQueue,
  PathPolicy,
  Raid0Queue,
  SECTOR_BYTES,
} from "../../block/index.ts";
import type { Bdf } from "../../core/index.ts";
import { sameBytes } from "../../core/index.ts";
import type { Machine } from "../../machine/index.ts";
import { NvmeStatus } from "../../spec/nvme/index.ts";
import { type Cell, cellOf, no, type WorksColumn, yes } from "./cell.ts";
import { type CompareDescription, openDescription } from "./descriptions.ts";
import type { CompareSubject } from "./setup.ts";
import { patternBytes, StackSetup } from "./stack-setup.ts";

const CHUNK = 64 * 1024;
const STRIPE = 4 * CHUNK;
const BLOCK = 4096;

/** As the world of the description stacks queues today. */
const inheritanceOf = (kind: CompareDescription): FeatureInheritance =>
  kind === "page" ? "linux" : "all";

/** The columns, for machines with two legs. */
export function stackColumns(
  machine: Machine,
  subject: CompareSubject,
  legs: readonly Bdf[],
): WorksColumn[] {
  if (legs.length < 2) return [];
  const make = (
    name: string,
    what: string,
    run: (kind: CompareDescription, inherit: FeatureInheritance) => Promise<Cell>,
  ): WorksColumn[] => [
    { name, what, run: (kind) => cellOf(() => run(kind, inheritanceOf(kind))) },
    {
      name: `${name}, feature passed on`,
      what: `the same, where every stacked queue has the peer-to-peer feature of its legs`,
      run: (kind) => cellOf(() => run(kind, "all")),
    },
  ];
  return [
    ...make(
      "raid0",
      "a write and a read over two NVMe controllers, by bus and through the host bridge (strict)",
      (kind, inherit) => raid0(kind, machine, subject, legs, inherit),
    ),
    ...make(
      "multipath",
      "writes by both paths to one namespace (strict); then one path fails and the other goes on",
      (kind, inherit) => multipath(kind, machine, subject, legs, inherit),
    ),
  ];
}

async function raid0(
  kind: CompareDescription,
  machine: Machine,
  subject: CompareSubject,
  legs: readonly Bdf[],
  inherit: FeatureInheritance,
): Promise<Cell> {
  const setup = await StackSetup.open(machine, subject, { legs, mode: "strict" });
  const queues = setup.legs.map(({ queue }) => queue);
  const queue = new Raid0Queue(queues, { chunkBytes: CHUNK, inherit });
  const handle = openDescription(kind, setup, setup.provider(), setup.devices);
  const data = patternBytes(STRIPE, 1);
  setup.fill(0, data);
  const written = setup.io(queue, BioOp.write, 0, handle, { byte: 0, length: STRIPE });
  if (written !== BlockStatus.ok) return no(`refused: ${blockStatusName(written)}`);
  for (let chunk = 0; chunk < STRIPE / CHUNK; chunk++) {
    const row = Math.floor(chunk / queues.length);
    const seen = setup.medium(chunk % queues.length, row * CHUNK, CHUNK);
    if (!sameBytes(seen, data.subarray(chunk * CHUNK, (chunk + 1) * CHUNK))) {
      return { outcome: "unsafe", detail: `chunk ${chunk} has other bytes on the medium` };
    }
  }
  const read = setup.io(queue, BioOp.read, 0, handle, { byte: STRIPE, length: STRIPE });
  if (read !== BlockStatus.ok) return no(`read refused: ${blockStatusName(read)}`);
  return sameBytes(setup.peek(STRIPE, STRIPE), data)
    ? yes(`each leg by its own address; parts per leg ${queue.counters.parts.join(" and ")}`)
    : { outcome: "unsafe", detail: "the bytes that were read went elsewhere" };
}

async function multipath(
  kind: CompareDescription,
  machine: Machine,
  subject: CompareSubject,
  legs: readonly Bdf[],
  inherit: FeatureInheritance,
): Promise<Cell> {
  // The third write meets a path error on the first path, every later one too.
  const faulty = { seed: 1, rules: [{ firstLba: 2 * 8, status: NvmeStatus.internalPathError }] };
  const setup = await StackSetup.open(machine, subject, {
    legs,
    mode: "strict",
    isShared: true,
    faults: (i) => (i === 0 ? faulty : undefined),
  });
  const queue = new MultipathQueue(
    setup.legs.map(({ queue: path }) => path),
    { inherit, policy: PathPolicy.roundRobin },
  );
  const handle = openDescription(kind, setup, setup.provider(), setup.devices);
  const data = patternBytes(3 * BLOCK, 2);
  setup.fill(0, data);
  const statuses: number[] = [];
  for (let i = 0; i < 3; i++) {
    const part = { byte: i * BLOCK, length: BLOCK };
    const sector = (i * BLOCK) / SECTOR_BYTES;
    statuses.push(setup.io(queue, BioOp.write, sector, handle, part));
  }
  const { failovers, sent, refused } = queue.counters;
  const [first, second, third] = statuses;
  if (first !== BlockStatus.ok || second !== BlockStatus.ok) {
    const status = first === BlockStatus.ok ? second : first;
    return no(`refused: ${blockStatusName(status)}`);
  }
  if (third !== BlockStatus.ok) {
    const detail =
      `both writes by the first path alone (the re-check kept ${refused[1]} from the other); ` +
      `no failover: ${blockStatusName(third)}`;
    return { outcome: "partly", detail };
  }
  return sameBytes(setup.medium(0, 0, data.length), data)
    ? yes(`tries per path ${sent.join(" and ")}; failovers ${failovers}`)
    : { outcome: "unsafe", detail: "other bytes on the medium" };
}
