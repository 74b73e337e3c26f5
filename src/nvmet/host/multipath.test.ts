/** Hosts that lose connections, targets and paths: seeded, on sockets in memory. */
import { describe, expect, it } from "vitest";
import { HOST_NQN, SUBSYSTEM_NQN } from "../../../testing/nvmet-harness.ts";
import { StallQueue } from "../../../testing/nvmet-rdma-harness.ts";
import { expectSame } from "../../../testing/nvmet-transport-contract.ts";
import { readDisk, type TargetRig, targetRig } from "../../../testing/target-rig.ts";
import { Prng, physAddr } from "../../core/index.ts";
import { cpuMemory } from "../../memory/index.ts";
import { MemoryNetwork } from "../../platform/index.ts";
import { AnaState, NvmeStatus, NvmOpcode } from "../../spec/nvme/index.ts";
import {
  decodeAnaLog,
  MultipathHost,
  type MultipathOptions,
  PathIo,
  type Port,
  TcpHostTransport,
  type TcpTargetTransport,
} from "../index.ts";

const KIB = 1024;
const BLOCK = 512;
const MS = 1e6;
const GROUP = 1;

interface Net {
  readonly rig: TargetRig;
  readonly networks: readonly MemoryNetwork[];
  readonly ports: readonly Port[];
  readonly stall: (on: boolean) => void;
  host(options?: Partial<MultipathOptions>): MultipathHost;
  /** Rounds with time passing, until `done`; fails after `maxMs`. */
  run(done: () => boolean, maxMs?: number): Promise<void>;
  settle<T>(promise: Promise<T>): Promise<T>;
}

/** A target with a TCP port per path, each on a network of its own. */
async function net(paths = 2, seed = 0): Promise<Net> {
  const stalls: StallQueue[] = [];
  const rig = await targetRig({
    description: "host-memory",
    wrapQueue: (queue) => {
      const stall = new StallQueue(queue);
      stalls.push(stall);
      return stall;
    },
  });
  const prng = new Prng(seed);
  const networks: MemoryNetwork[] = [];
  const ports: Port[] = [];
  for (let i = 0; i < paths; i++) {
    const cut = (available: number): number => 1 + prng.below(Math.min(available, 6000));
    const network = new MemoryNetwork(seed === 0 ? {} : { cut });
    const at = { id: 10 + i, network, address: `10.0.0.${i}`, port: 4420 };
    ports.push((await rig.settle(rig.assembly.listenTcp([rig.subsystem], at))).port);
    rig.reactor.add(network);
    networks.push(network);
  }
  const run = async (done: () => boolean, maxMs = 120_000): Promise<void> => {
    for (let ms = 0; !done(); ms++) {
      expect(ms).toBeLessThan(maxMs);
      let quiet = 0;
      for (let i = 0; i < 40 && quiet < 3 && !done(); i++) {
        quiet = rig.reactor.round() === 0 ? quiet + 1 : 0;
        for (let k = 0; k < 8; k++) await Promise.resolve();
      }
      rig.advance(MS);
    }
  };
  return {
    rig,
    networks,
    ports,
    stall(on) {
      for (const stall of stalls) stall.isStalled = on;
      if (on) rig.reactor.remove(rig.disk);
      else rig.reactor.add(rig.disk);
    },
    host(options = {}) {
      const transports = networks.map(
        (network, i) => new TcpHostTransport({ network, address: `10.0.0.${i}`, port: 4420 }),
      );
      const host = new MultipathHost({
        transports,
        hostNqn: HOST_NQN,
        subsystemNqn: SUBSYSTEM_NQN,
        nowNs: () => rig.scheduler.nowNs(),
        keepAliveMs: 200,
        reconnectDelayMs: 50,
        ioTimeoutMs: 5000,
        connectTimeoutMs: 1000,
        depth: 16,
        ...options,
      });
      rig.reactor.add(host);
      return host;
    },
    run,
    async settle(promise) {
      let isSettled = false;
      const mark = (): void => {
        isSettled = true;
      };
      promise.then(mark, mark);
      await run(() => isSettled);
      return promise;
    },
  };
}

/** Memory of the host, and I/Os over it: each ends in `ended`, with how often. */
async function memory(host: MultipathHost, sizeBytes: number) {
  const bytes = new Uint8Array(sizeBytes);
  const registered = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, sizeBytes);
  const ends = new Map<PathIo, number>();
  const owner = {
    ioDone(io: PathIo): void {
      ends.set(io, (ends.get(io) ?? 0) + 1);
    },
  };
  const io = (opcode: number, lba: number, blocks: number, at: number): PathIo => {
    const made = new PathIo(owner);
    made.opcode = opcode;
    made.nsid = 1;
    made.setRange(lba, blocks, false);
    if (opcode !== NvmOpcode.flush && opcode !== NvmOpcode.writeZeroes) {
      made.buffers = registered.buffers;
      made.bufferOffset = at;
      made.dataBytes = blocks * BLOCK;
    }
    return made;
  };
  return { bytes, ends, io };
}

const states = (host: MultipathHost): string[] => host.paths.map(({ state }) => state);

describe("paths", () => {
  it("share the I/O while both are optimized, and follow the ANA states", async () => {
    const made = await net();
    const { rig, ports } = made;
    const host = made.host();
    await made.settle(host.connect());
    await made.run(() => states(host).every((state) => state === "live"));
    expect(host.namespaces).toEqual([{ nsid: 1, blocks: rig.namespace.blocks, blockBytes: 512 }]);
    const { io, ends } = await memory(host, 64 * KIB);
    const send = async (): Promise<number[]> => {
      const before = host.paths.map(({ link }) => link.sent);
      const ios = Array.from({ length: 8 }, (_, i) => io(NvmOpcode.read, 8 * i, 8, 4096 * i));
      for (const each of ios) host.submit(each);
      await made.run(() => ios.every(({ isBusy }) => !isBusy));
      expect(ios.map(({ status }) => status)).toEqual(ios.map(() => 0));
      return host.paths.map(({ link }, i) => link.sent - (before[i] as number));
    };
    expect(await send()).toEqual([4, 4]);
    rig.assembly.target.setAnaState(ports[0] as Port, GROUP, AnaState.nonOptimized);
    await made.run(() => host.paths[0]?.link.stateOf(1) === AnaState.nonOptimized);
    expect(await send()).toEqual([0, 8]);
    rig.assembly.target.setAnaState(ports[1] as Port, GROUP, AnaState.inaccessible);
    // Sent before the notice: refused there, and sent again on the other path.
    expect(await send()).toEqual([8, expect.any(Number)]);
    rig.assembly.target.setAnaState(ports[1] as Port, GROUP, AnaState.optimized);
    await made.run(() => host.paths[1]?.link.stateOf(1) === AnaState.optimized);
    expect(await send()).toEqual([0, 8]);
    expect([...ends.values()].every((count) => count === 1)).toBe(true);
  });

  it("fail over: reads at once, writes when the old controller must have ended", async () => {
    const made = await net();
    const host = made.host();
    await made.settle(host.connect());
    await made.run(() => states(host).every((state) => state === "live"));
    const { io, bytes } = await memory(host, 16 * KIB);
    new Prng(3).fill(bytes);
    const wanted = bytes.slice(0, 8 * KIB);
    const [path] = host.paths;
    made.stall(true);
    const write = io(NvmOpcode.write, 0, 16, 0);
    const read = io(NvmOpcode.read, 64, 8, 8 * KIB);
    host.submit(write);
    host.submit(read);
    await made.run(() => host.paths.every(({ link }) => link.inFlight === 1));
    for (const network of made.networks) network.cutAll();
    await made.run(() => states(host).every((state) => state !== "live"));
    const lostNs = made.rig.scheduler.nowNs();
    made.stall(false);
    await made.run(() => !read.isBusy);
    expect(read.status).toBe(0);
    expect(made.rig.scheduler.nowNs() - lostNs).toBeLessThan(200 * MS);
    expect(write.isBusy).toBe(true);
    await made.run(() => !write.isBusy);
    expect(write.status).toBe(0);
    expect(write.sent).toBe(2);
    expect(made.rig.scheduler.nowNs() - lostNs).toBeGreaterThanOrEqual(400 * MS);
    expectSame(readDisk(made.rig, 0, 8 * KIB), wanted);
    expect(path?.losses).toBe(1);
  });

  it("an unknown outcome is reported where repeating is not allowed", async () => {
    for (const options of [{ keepAliveMs: 0 }, { repeatWrites: "never" } as const]) {
      const made = await net(1);
      const host = made.host(options);
      await made.settle(host.connect());
      const { io, ends } = await memory(host, 16 * KIB);
      made.stall(true);
      const write = io(NvmOpcode.write, 0, 8, 0);
      const reserve = io(NvmOpcode.reservationAcquire, 0, 1, 0);
      const read = io(NvmOpcode.read, 0, 8, 8 * KIB);
      for (const each of [write, reserve, read]) host.submit(each);
      await made.run(() => host.paths[0]?.link.inFlight === 3);
      made.networks[0]?.cutAll();
      made.stall(false);
      await made.run(() => [write, reserve, read].every(({ isBusy }) => !isBusy));
      expect(write.status).toBe(NvmeStatus.hostPathError);
      expect(reserve.status).toBe(NvmeStatus.hostPathError);
      expect(read.status).toBe(0);
      expect([...ends.values()]).toEqual([1, 1, 1]);
    }
  });

  it("an I/O that hangs is aborted, then its controller given up", async () => {
    const made = await net(1);
    const host = made.host({ ioTimeoutMs: 300 });
    await made.settle(host.connect());
    const { io } = await memory(host, 16 * KIB);
    made.stall(true);
    const read = io(NvmOpcode.read, 0, 8, 0);
    host.submit(read);
    await made.run(() => host.paths[0]?.timeouts === 1);
    await made.run(() => host.paths[0]?.losses === 1);
    made.stall(false);
    await made.run(() => !read.isBusy);
    expect(read.status).toBe(0);
    expect(host.paths[0]?.lastError).toMatch(/timed out/);
  });

  it("a target that answers nothing is noticed by Keep Alive", async () => {
    const made = await net(1);
    const host = made.host();
    await made.settle(host.connect());
    // The target is not polled any more: it hangs, and its sockets stay open.
    made.rig.reactor.remove(made.rig.assembly);
    await made.run(() => host.paths[0]?.losses === 1, 2000);
    expect(host.paths[0]?.lastError).toMatch(/Keep Alive/);
    made.rig.reactor.add(made.rig.assembly);
    await made.run(() => host.paths[0]?.state === "live");
  });

  it("all gone for too long: what waits ends, once, and so does what comes", async () => {
    const made = await net(1);
    const host = made.host({ ctrlLossMs: 500 });
    await made.settle(host.connect());
    const { io, ends } = await memory(host, 16 * KIB);
    await made.rig.settle(made.rig.assembly.tcpTransports[0]?.close() ?? Promise.resolve());
    await made.run(() => states(host)[0] === "waiting");
    const read = io(NvmOpcode.read, 0, 8, 0);
    host.submit(read);
    await made.run(() => !read.isBusy, 2000);
    expect(read.status).toBe(NvmeStatus.hostPathError);
    const late = io(NvmOpcode.read, 0, 8, 0);
    host.submit(late);
    expect(late.status).toBe(NvmeStatus.hostPathError);
    expect([...ends.values()]).toEqual([1, 1]);
  });

  it("a host that may not connect is told so", async () => {
    const made = await net(1);
    const host = made.host({ hostNqn: "nqn.2026-11.test.peerlane:other", ctrlLossMs: 300 });
    await expect(made.settle(host.connect())).rejects.toMatchObject({
      code: "no-path",
      place: expect.stringMatching(/Connect Invalid Host/),
    });
    await made.settle(host.close());
  });
});

describe("cuts at any moment", () => {
  const SLOTS = 12;
  const SLOT_BYTES = 8 * KIB;
  const ROUNDS = 6000;

  it.each([1, 2, 3, 4])("lose nothing and report nothing twice (seed %i)", async (seed) => {
    const prng = new Prng(seed * 77);
    const made = await net(2, seed);
    const host = made.host({
      queues: 2,
      keepAliveMs: 100,
      inCapsuleBytes: seed % 2 === 0 ? 4096 : 0,
    });
    await made.settle(host.connect());
    const { bytes, ends, io } = await memory(host, 2 * SLOTS * SLOT_BYTES);
    const lbaOf = (slot: number): number => slot * (SLOT_BYTES / BLOCK);
    // Each slot of the disk has one I/O at a time: write what is new, read what must be there.
    const slots = Array.from({ length: SLOTS }, (_, slot) => ({
      write: io(NvmOpcode.write, lbaOf(slot), SLOT_BYTES / BLOCK, slot * SLOT_BYTES),
      read: io(NvmOpcode.read, lbaOf(slot), SLOT_BYTES / BLOCK, (SLOTS + slot) * SLOT_BYTES),
      expected: new Uint8Array(SLOT_BYTES),
      current: null as PathIo | null,
      started: 0,
    }));
    let rounds = 0;
    let cuts = 0;
    let stalledUntil = 0;
    const isBusy = (): boolean => slots.some(({ current }) => current?.isBusy === true);
    await made.run(() => {
      rounds++;
      if (rounds < ROUNDS && prng.below(300) === 0) {
        made.networks[prng.below(2)]?.cutAll();
        cuts++;
      }
      // The disk is late now and then: what it does then may be of a connection that is gone.
      if (stalledUntil === 0 && prng.below(200) === 0) {
        made.stall(true);
        stalledUntil = rounds + 30 + prng.below(200);
      } else if (stalledUntil > 0 && rounds >= stalledUntil) {
        made.stall(false);
        stalledUntil = 0;
      }
      for (const [i, slot] of slots.entries()) {
        if (slot.current?.isBusy === true) continue;
        if (slot.current !== null) {
          expect(slot.current.status).toBe(0);
          expect(ends.get(slot.current)).toBe(1);
          ends.delete(slot.current);
          if (slot.current === slot.read) {
            const at = (SLOTS + i) * SLOT_BYTES;
            expectSame(bytes.subarray(at, at + SLOT_BYTES), slot.expected);
          }
        }
        if (rounds >= ROUNDS) {
          slot.current = null;
          continue;
        }
        slot.current = prng.below(2) === 0 ? slot.write : slot.read;
        if (slot.current === slot.write) {
          prng.fill(bytes.subarray(i * SLOT_BYTES, (i + 1) * SLOT_BYTES));
          slot.expected = bytes.slice(i * SLOT_BYTES, (i + 1) * SLOT_BYTES);
        }
        slot.started++;
        host.submit(slot.current);
      }
      return rounds >= ROUNDS && !isBusy();
    });
    expect(cuts).toBeGreaterThan(10);
    expect(host.set.resent).toBeGreaterThan(5);
    expect(host.set.completed).toBeGreaterThan(100);
    for (const [i, { expected, started }] of slots.entries()) {
      expect(started).toBeGreaterThan(0);
      expectSame(readDisk(made.rig, i * SLOT_BYTES, SLOT_BYTES), expected);
    }
    await made.settle(host.close());
    expect(host.set.busy).toBe(0);
    expect(ends.size).toBe(0);
  });
});

it("an ANA log of any bytes is read inside its bounds", () => {
  const prng = new Prng(9);
  for (let i = 0; i < 300; i++) {
    const bytes = new Uint8Array(64 + prng.below(300));
    prng.fill(bytes);
    bytes[8] = prng.below(5);
    bytes[9] = 0;
    const read = decodeAnaLog(bytes, 8);
    expect(read === null || read.length === 8).toBe(true);
  }
});

describe("a Connect that is refused for good", () => {
  it("is not tried again, and the reason is told", async () => {
    const all = await net(1);
    const host = all.host({ hostNqn: "nqn.2026-11.test.peerlane:stranger" });
    const error = await all.settle(host.connect()).then(
      () => null,
      (caught) => caught,
    );
    expect(error).toMatchObject({ code: "no-path" });
    expect(error.place).toMatch(/Connect Invalid Host/);
    expect(error.remedy).toMatch(/let this host's name connect/);
    expect(host.paths[0]?.state).toBe("gone");
    const { accepted } = (all.rig.assembly.tcpTransports[0] as TcpTargetTransport).counters;
    await all.run(() => false, 500).catch(() => undefined);
    expect(all.rig.assembly.tcpTransports[0]?.counters.accepted).toBe(accepted);
  });

  it("ends a path that was live when its host is no longer allowed", async () => {
    const all = await net(1);
    const host = all.host();
    await all.settle(host.connect());
    all.rig.subsystem.allowAnyHost = false;
    all.rig.subsystem.disallowHost(HOST_NQN);
    all.rig.subsystem.disconnectHost(HOST_NQN, "host removed");
    await all.run(() => host.paths[0]?.state === "gone", 2000);
    expect(host.set.isOver).toBe(true);
  });
});
