/**
 * A host that does a bit of everything to a target over real sockets, for captures: all kinds of
 * capsules and data transfers, commands that are answered and commands that are refused.
 */

import { physAddr, viewOf } from "../src/core/index.ts";
import { cpuMemory } from "../src/memory/index.ts";
import {
  type HostBuffer,
  HostCommand,
  type HostCredentials,
  type NvmfHost,
} from "../src/nvmet/index.ts";
import type { Network, StreamAddress } from "../src/platform/index.ts";
import { AdminOpcode, Fuse, NvmOpcode, OAES_NAMESPACE_ATTRIBUTE } from "../src/spec/nvme/index.ts";
import { DISCOVERY_NQN } from "../src/spec/nvmf/index.ts";
import { socketHost } from "./target-service.ts";

export interface SessionOptions {
  readonly network: Network;
  readonly at: StreamAddress;
  readonly subsystemNqn: string;
  readonly hostNqn: string;
  readonly headerDigest?: boolean;
  readonly dataDigest?: boolean;
  readonly hpda?: number;
  readonly disableSqFlowControl?: boolean;
  /** Default 8192. */
  readonly inCapsuleBytes?: number;
  readonly credentials?: HostCredentials;
  /** Blocks of 512 bytes of each write and read. */
  readonly sizes: readonly number[];
}

const BLOCK = 512;
/** Large enough for the longest I/O, and what is read beside it. */
const BUFFER_BYTES = 4 * 2 ** 20;

/** Connects a host, lets `use` work with it, and disconnects; polled meanwhile. */
async function withHost<T>(
  options: SessionOptions,
  subsystemNqn: string,
  use: (host: NvmfHost) => Promise<T>,
): Promise<T> {
  const { network, at, hostNqn, headerDigest, dataDigest, hpda, credentials } = options;
  const { host, loop, failures } = socketHost(
    at,
    {
      hostNqn,
      subsystemNqn,
      depth: 16,
      inCapsuleBytes: options.inCapsuleBytes ?? 8192,
      keepAliveMs: 5000,
      disableSqFlowControl: options.disableSqFlowControl === true,
      ...(credentials === undefined ? {} : { credentials }),
    },
    {
      network,
      headerDigest: headerDigest === true,
      dataDigest: dataDigest === true,
      hpda: hpda ?? 0,
    },
  );
  try {
    await host.connect();
    const result = await use(host);
    await host.disconnect();
    if (failures.length > 0) throw failures[0];
    return result;
  } finally {
    loop.stop();
  }
}

/** What the discovery controller tells. */
export function discoverySession(options: SessionOptions): Promise<number> {
  return withHost(options, DISCOVERY_NQN, async (host) => (await host.discoveryLog()).length);
}

/** Statuses of the commands that were refused, in order. Throws when data came back wrong. */
export function diskSession(options: SessionOptions): Promise<number[]> {
  return withHost(options, options.subsystemNqn, async (host) => {
    await host.enableEvents(OAES_NAMESPACE_ATTRIBUTE);
    const statuses = await adminSweep(host);
    statuses.push(...(await ioSweep(host, options.sizes)));
    return statuses;
  });
}

async function adminSweep(host: NvmfHost): Promise<number[]> {
  const statuses: number[] = [];
  const ask = (request: Parameters<NvmfHost["admin"]>[0]): Promise<unknown> =>
    host.admin(request).catch((error) => statuses.push(error.details.status));
  const identify = { opcode: AdminOpcode.identify, dataBytes: 4096 };
  for (const cns of [0, 1, 2, 3, 5, 6, 7, 8, 0x10, 0x77]) {
    await ask({ ...identify, nsid: 1, dwords: [cns] });
  }
  for (const lid of [0, 1, 2, 3, 4, 5, 0xc, 0x80, 0x70]) {
    await ask({
      opcode: AdminOpcode.getLogPage,
      nsid: 0xffff_ffff,
      dwords: [lid | (127 << 16)],
      dataBytes: 512,
    });
  }
  // Not 1, Arbitration: tshark 4.0 has an assertion that fails on its answer.
  for (const fid of [2, 4, 5, 6, 7, 0xa, 0xb, 0xf, 0x16, 0x80, 0x81, 0x82]) {
    await ask({ opcode: AdminOpcode.getFeatures, nsid: 1, dwords: [fid], dataBytes: 4096 });
  }
  await ask({ opcode: AdminOpcode.setFeatures, dwords: [0xb, 0x100] });
  await ask({ opcode: AdminOpcode.keepAlive });
  await ask({ opcode: AdminOpcode.abort, dwords: [0xffff_0001] });
  await ask({ opcode: 0xc5 });
  return statuses;
}

/** Fused pairs, halves of such, and aborts. Statuses of all, in order. */
export function fusedSession(options: SessionOptions): Promise<number[]> {
  return withHost(options, options.subsystemNqn, async (host) => [
    ...(await fusedSweep(host)),
    ...(await abortSweep(host)),
  ]);
}

const LBA = 40;
/** Entries of our host's Admin Queue. */
const ADMIN_DEPTH = 32;

async function fusedSweep(host: NvmfHost): Promise<number[]> {
  const bytes = new Uint8Array(4 * BLOCK);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, bytes.length);
  // Blocks of one letter each: what is there, what is wanted, and what is neither.
  for (const [i, letter] of [0x41, 0x42, 0x43].entries()) {
    bytes.fill(letter, i * BLOCK, (i + 1) * BLOCK);
  }
  const [there, wanted, neither] = [0, 1, 2];
  const [queue] = host.queues;
  const { compare, write, read } = NvmOpcode;
  type Half = readonly [
    opcode: number,
    block: number,
    fuse?: number,
    lba?: number,
    blocks?: number,
  ];
  const run = async (...halves: readonly Half[]): Promise<number[]> => {
    const statuses = halves.map(
      ([opcode, block, fuse = Fuse.none, lba = LBA, blocks = 1]) =>
        new Promise<number>((resolve, reject) => {
          const command = new HostCommand({ commandDone: ({ status }) => resolve(status) });
          command.nsid = 1;
          command.opcode = opcode;
          command.fuse = fuse;
          command.setRange(lba, blocks, false);
          command.setData(buffer, block * BLOCK, blocks * BLOCK);
          if (queue.submit(command) !== 0) reject(new Error("a command was not taken"));
        }),
    );
    queue.kick();
    return Promise.all(statuses);
  };
  const { first, second } = Fuse;
  const steps: readonly (readonly Half[])[] = [
    [[write, there]],
    // Equal: written. Not equal any more: not written.
    [
      [compare, there, first],
      [write, wanted, second],
    ],
    [
      [compare, there, first],
      [write, neither, second],
    ],
    [[compare, wanted]],
    // What is no pair: a half alone, others' ranges, too many blocks, other commands, two firsts.
    [
      [compare, wanted, first],
      [read, 3],
    ],
    [[write, neither, second]],
    [
      [compare, wanted, first],
      [write, neither, second, LBA + 1],
    ],
    [
      [compare, wanted, first, LBA, 2],
      [write, neither, second, LBA, 2],
    ],
    [
      [write, neither, first],
      [compare, wanted, second],
    ],
    [
      [compare, wanted, first],
      [compare, wanted, first],
      [write, there, second],
    ],
    [[compare, there]],
    // Two pairs at once.
    [
      [compare, there, first],
      [write, wanted, second],
      [compare, wanted, first],
      [write, there, second],
    ],
    [[compare, there]],
  ];
  const statuses: number[] = [];
  for (const step of steps) statuses.push(...(await run(...step)));
  return statuses;
}

/** Aborts by every identifier: the asynchronous event request has one of them. What each says. */
async function abortSweep(host: NvmfHost): Promise<number[]> {
  await host.enableEvents(OAES_NAMESPACE_ATTRIBUTE);
  const outcomes: number[] = [];
  for (let cid = 0; cid < ADMIN_DEPTH; cid++) {
    const { result0 } = await host.admin({
      opcode: AdminOpcode.abort,
      dwords: [cid * 2 ** 16],
    });
    outcomes.push(result0);
  }
  return outcomes;
}

type Run = (fill: (command: HostCommand) => void) => Promise<number>;

/** Commands whose data is a list or a key: ranges, reservations. Statuses that are not 0. */
async function listSweep(run: Run, bytes: Uint8Array, buffer: HostBuffer): Promise<number[]> {
  const view = viewOf(bytes);
  const ask = (opcode: number, dataBytes: number, dwords: readonly number[]): Promise<number> =>
    run((command) => {
      command.opcode = opcode;
      for (const [i, dword] of dwords.entries()) command.dwords[i] = dword;
      command.setData(buffer, 0, dataBytes);
    });
  const statuses: number[] = [];
  const keys = (current: number, next: number): void => {
    bytes.fill(0, 0, 64);
    view.setUint32(0, current, true);
    view.setUint32(8, next, true);
  };
  // One range: 8 blocks from block 64 on; then the same as the source of a copy to block 128.
  bytes.fill(0, 0, 64);
  view.setUint32(4, 8, true);
  view.setUint32(8, 64, true);
  statuses.push(await ask(NvmOpcode.datasetManagement, 16, [0, 4]));
  bytes.fill(0, 0, 64);
  view.setUint32(8, 64, true);
  view.setUint16(16, 7, true);
  statuses.push(await ask(NvmOpcode.copy, 32, [128, 0, 0]));
  keys(0, 0x11);
  statuses.push(await ask(NvmOpcode.reservationRegister, 16, [0]));
  keys(0x11, 0);
  statuses.push(await ask(NvmOpcode.reservationAcquire, 16, [0x100]));
  statuses.push(await ask(NvmOpcode.reservationReport, 4096, [1023, 1]));
  keys(0x22, 0);
  statuses.push(await ask(NvmOpcode.reservationRelease, 8, [0x100]));
  keys(0x11, 0);
  statuses.push(await ask(NvmOpcode.reservationRelease, 8, [0x100]));
  statuses.push(await ask(NvmOpcode.reservationRegister, 16, [1]));
  return statuses.filter((status) => status !== 0);
}

async function ioSweep(host: NvmfHost, sizes: readonly number[]): Promise<number[]> {
  const bytes = new Uint8Array(BUFFER_BYTES);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, BUFFER_BYTES);
  const [queue] = host.queues;
  const statuses: number[] = [];
  const run: Run = (fill) =>
    new Promise((resolve, reject) => {
      const command = new HostCommand({ commandDone: ({ status }) => resolve(status) });
      command.nsid = 1;
      fill(command);
      if (queue.submit(command) !== 0) reject(new Error("a command was not taken"));
      queue.kick();
    });
  const io = (opcode: number, lba: number, blocks: number, at: number | null, fua = false) =>
    run((command) => {
      command.opcode = opcode;
      command.setRange(lba, blocks, fua);
      if (at !== null) command.setData(buffer, at, blocks * BLOCK);
    });
  const good = async (done: Promise<number>): Promise<void> => {
    const status = await done;
    if (status !== 0) throw new Error(`a command failed with status ${status.toString(16)}`);
  };
  const half = BUFFER_BYTES / 2;
  for (const blocks of sizes) {
    // Every block differs, and compresses well.
    for (let i = 0; i < blocks * BLOCK; i++) bytes[i] = i * 31 + (i >> 9) * 7 + blocks;
    await good(io(NvmOpcode.write, 8, blocks, 0, blocks === 1));
    await good(io(NvmOpcode.read, 8, blocks, half));
    await good(io(NvmOpcode.compare, 8, blocks, 0));
    const [sent, back] = [0, half].map((at) => bytes.subarray(at, at + blocks * BLOCK));
    if (Buffer.compare(sent as Uint8Array, back as Uint8Array) !== 0) {
      throw new Error(`${blocks} blocks came back different`);
    }
  }
  // Several at a time, of which some are refused.
  await Promise.all(
    sizes.slice(0, 4).flatMap((blocks, i) => {
      const at = i * 2 ** 19;
      return [io(NvmOpcode.write, 4000 * i, blocks, at), io(NvmOpcode.read, 4000 * i, blocks, at)];
    }),
  );
  statuses.push(...(await listSweep(run, bytes, buffer)));
  await good(io(NvmOpcode.flush, 0, 1, null));
  await good(io(NvmOpcode.writeZeroes, 0, 8, null));
  await good(io(NvmOpcode.verify, 0, 8, null));
  statuses.push(await io(NvmOpcode.compare, 0, 1, 0));
  statuses.push(await io(NvmOpcode.read, 2 ** 40, 1, half));
  statuses.push(await io(NvmOpcode.write, 2 ** 40, 64, 0));
  statuses.push(await io(0x99, 0, 1, null));
  return statuses;
}
