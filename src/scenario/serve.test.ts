import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { sameSwitch } from "../../testing/machines.ts";
import { socketHost } from "../../testing/target-service.ts";
import { Prng, physAddr, viewOf } from "../core/index.ts";
import { cpuMemory } from "../memory/index.ts";
import { HostCommand, type NvmfHost } from "../nvmet/index.ts";
import { realClock, realNetwork } from "../platform/index.ts";
import {
  Cns,
  DLFEAT_READ_ZEROES,
  DLFEAT_WRITE_ZEROES_DEALLOCATE,
  IdNs,
  IO_DEAC,
  NvmeStatus,
  NvmOpcode,
  STATUS_DNR,
} from "../spec/nvme/index.ts";
import { DISCOVERY_NQN } from "../spec/nvmf/index.ts";
import { TargetServer } from "./serve.ts";
import {
  parseListen,
  parseNamespace,
  type ServedPort,
  simpleConfig,
  targetConfigSchema,
} from "./target/index.ts";

const NQN = "nqn.2026-11.test.peerlane:served";

it("reads what it is asked to serve", () => {
  expect(parseListen("[::1]:9")).toEqual({ address: "::1", port: 9 });
  expect(parseListen("10.0.0.1")).toEqual({ address: "10.0.0.1", port: 4420 });
  expect(() => parseListen("1.2.3.4:99999")).toThrow(/no address/);
  const sized = { sizeBytes: 2 ** 20, file: "a=b.img", readOnly: false, blockBytes: 512 };
  expect(parseNamespace("size=1M,file=a=b.img")).toEqual({ ...sized, backend: "ssd" });
  const bare = { sizeBytes: null, file: "x", readOnly: true, blockBytes: 4096 };
  expect(parseNamespace("file=x,ro,block=4096,backend=ssd")).toEqual({ ...bare, backend: "ssd" });
  expect(parseNamespace("size=4K,backend=cpu")).toMatchObject({ file: null, backend: "cpu" });
  for (const bad of ["", "size=1", "size=x", "size=1G,colour=red", "size=1G,ro", "backend=gpu"]) {
    expect(() => parseNamespace(bad)).toThrow(/no namespace/);
  }
});

function hostFor(
  server: TargetServer,
  subsystemNqn: string,
  portId = 1,
  hostId = new Uint8Array(16).fill(1),
) {
  const { at } = server.ports.get(portId) as ServedPort;
  const options = { hostNqn: "nqn.2026-11.test.peerlane:h", hostId, subsystemNqn, depth: 16 };
  return socketHost(at, options, { headerDigest: true, dataDigest: true });
}

function run(host: NvmfHost, fill: (command: HostCommand) => void): Promise<number> {
  return new Promise((resolve) => {
    const command = new HostCommand({ commandDone: ({ status }) => resolve(status) });
    command.nsid = 1;
    fill(command);
    expect(host.queues[0].submit(command)).toBe(0);
    host.queues[0].kick();
  });
}

it("keeps a reservation that persists while it is not running", async () => {
  const folder = await mkdtemp(join(tmpdir(), "peerlane-serve-"));
  const open = () =>
    TargetServer.open({
      machine: sameSwitch(),
      config: simpleConfig({
        listen: [{ address: "127.0.0.1", port: 0 }],
        nqn: NQN,
        allowedHosts: [],
        namespaces: [{ sizeBytes: 2 ** 20, file: join(folder, "disk.img") }],
      }),
      network: realNetwork,
      clock: realClock,
      onEvent: () => undefined,
      onError: (error) => expect.fail(String(error)),
    });
  const key = new Uint8Array(16).fill(0x5a);
  const first = await open();
  const { host, loop } = hostFor(first, NQN);
  await host.connect();
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes: key }), 0, 16);
  const reserve = (opcode: number, cdw10: number) =>
    run(host, (command) => {
      command.opcode = opcode;
      command.dwords[0] = cdw10;
      command.setData(buffer, 0, 16);
    });
  // Register with CPTPL 11b, then acquire Exclusive Access with that key.
  expect(await reserve(NvmOpcode.reservationRegister, 0xc000_0000)).toBe(0);
  expect(await reserve(NvmOpcode.reservationAcquire, 2 << 8)).toBe(0);
  await host.disconnect();
  loop.stop();
  await first.close();

  const second = await open();
  const stranger = hostFor(second, NQN, 1, new Uint8Array(16).fill(9));
  await stranger.host.connect();
  const flush = (of: NvmfHost) => run(of, (command) => (command.opcode = NvmOpcode.flush));
  expect(await flush(stranger.host)).toBe(NvmeStatus.reservationConflict | STATUS_DNR);
  const holder = hostFor(second, NQN);
  await holder.host.connect();
  expect(await flush(holder.host)).toBe(0);
  for (const one of [stranger, holder]) {
    await one.host.disconnect();
    one.loop.stop();
  }
  await second.close();
  await rm(folder, { recursive: true });
});

const STAGES: [string, object, string][] = [
  ["host memory", {}, "host-memory"],
  ["the SSD's CMB", { provider: "auto", cmbBytes: 2 ** 24 }, "cpu"],
];

it.each(STAGES)("serves a file over sockets, through %s", async (_name, stage, way) => {
  const folder = await mkdtemp(join(tmpdir(), "peerlane-serve-"));
  const file = join(folder, "disk.img");
  const events: string[] = [];
  const errors: unknown[] = [];
  const server = await TargetServer.open({
    machine: sameSwitch(),
    config: simpleConfig({
      listen: [{ address: "127.0.0.1", port: 0 }],
      nqn: NQN,
      allowedHosts: [],
      namespaces: [{ sizeBytes: 2 ** 22, file }],
      ...stage,
    }),
    network: realNetwork,
    clock: realClock,
    onEvent: ({ what }) => events.push(what),
    onError: (error) => errors.push(error),
  });
  const finder = hostFor(server, DISCOVERY_NQN);
  await finder.host.connect();
  const found = await finder.host.discoveryLog();
  expect(found.map(({ subsystemNqn }) => subsystemNqn)).toContain(NQN);
  await finder.host.disconnect();
  finder.loop.stop();

  const { host, loop, failures } = hostFor(server, NQN);
  await host.connect();
  expect(host.namespaces).toEqual([{ nsid: 1, blocks: 8192, blockBytes: 512 }]);
  const bytes = new Uint8Array(2 ** 20);
  new Prng(5).fill(bytes);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, bytes.length);
  const half = bytes.length / 2;
  const statuses = await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      run(host, (command) => {
        command.opcode = NvmOpcode.write;
        command.setRange(i * 128, 128, false);
        command.setData(buffer, i * 65_536, 65_536);
      }),
    ),
  );
  expect(statuses).toEqual(new Array(8).fill(0));
  const flush = (command: HostCommand): void => {
    command.opcode = NvmOpcode.flush;
  };
  expect(await run(host, flush)).toBe(0);
  expect((await readFile(file)).subarray(0, half).equals(bytes.subarray(0, half))).toBe(true);
  const read = await run(host, (command) => {
    command.opcode = NvmOpcode.read;
    command.setRange(0, 1024, false);
    command.setData(buffer, half, half);
  });
  expect(read).toBe(0);
  expect(Buffer.compare(bytes.subarray(half), bytes.subarray(0, half))).toBe(0);
  const { net, copiedFromSockets, copiedToSockets } = server.payload();
  expect(net).toMatchObject({ "host-memory": 0, cpu: 0, capsule: 0, [way]: 2 * half });
  // The payload once, and what Connect and Identify carry.
  expect(copiedFromSockets - half).toBeLessThan(8192);
  expect(copiedToSockets - half).toBeLessThan(65_536);
  await host.disconnect();
  loop.stop();
  await server.close();
  expect([...errors, ...failures]).toEqual([]);
  expect(events.filter((event) => event === "connected")).toHaveLength(3);
  await rm(folder, { recursive: true });
});

it("serves several subsystems on several ports, as configured", async () => {
  const other = "nqn.2026-11.test.peerlane:other";
  const config = targetConfigSchema.parse({
    subsystems: [
      {
        nqn: NQN,
        attr_allow_any_host: true,
        namespaces: [
          { nsid: 3, size: "1M" },
          { nsid: 9, size: "2M", block_size: 4096 },
          { nsid: 10, size: "1M", enable: false },
        ],
      },
      { nqn: other, allowed_hosts: ["nqn.2026-11.test.peerlane:somebody"] },
    ],
    ports: [
      { portid: 5, addr_trsvcid: 0, subsystems: [NQN, other] },
      {
        portid: 6,
        addr_trsvcid: 0,
        param_max_queue_size: 32,
        param_inline_data_size: 4096,
        subsystems: [NQN],
        referrals: [{ name: "r", addr_traddr: "10.9.8.7" }],
      },
    ],
  });
  const errors: unknown[] = [];
  const server = await TargetServer.open({
    machine: sameSwitch(),
    config,
    network: realNetwork,
    clock: realClock,
    onEvent: () => undefined,
    onError: (error) => errors.push(error),
  });
  const finder = hostFor(server, DISCOVERY_NQN, 6);
  await finder.host.connect();
  const found = await finder.host.discoveryLog();
  // The subsystem that this host may not use is on no list.
  expect(found.map(({ subsystemNqn, portId }) => [subsystemNqn, portId])).toEqual([
    [NQN, 5],
    [DISCOVERY_NQN, 6],
    [NQN, 6],
    [DISCOVERY_NQN, 0],
  ]);
  await finder.host.disconnect();
  finder.loop.stop();
  for (const portId of [5, 6]) {
    const { host, loop, failures } = hostFor(server, NQN, portId);
    await host.connect();
    expect(host.namespaces).toEqual([
      { nsid: 3, blocks: 2048, blockBytes: 512 },
      { nsid: 9, blocks: 512, blockBytes: 4096 },
    ]);
    await host.disconnect();
    loop.stop();
    expect(failures).toEqual([]);
  }
  await server.close();
  expect(errors).toEqual([]);
});

it("refuses what it does not do, and a configuration that does not hold together", async () => {
  const open = (config: object) =>
    TargetServer.open({
      machine: sameSwitch(),
      config: targetConfigSchema.parse(config),
      network: realNetwork,
      clock: realClock,
      onEvent: () => undefined,
      onError: () => undefined,
    });
  await expect(open({ ports: [{ portid: 1, addr_treq: "required" }] })).rejects.toThrow(
    /addr_treq/,
  );
  await expect(open({ ports: [{ portid: 1, subsystems: [NQN] }] })).rejects.toThrow(/no subsystem/);
  const busy = { ports: [{ portid: 1, addr_traddr: "192.0.2.1" }] };
  await expect(open(busy)).rejects.toThrow(/cannot listen on 192.0.2.1/);
});

it("gives the CPU no peer memory", () => {
  const namespaces = [{ nsid: 1, size: "1M", backend: "cpu", p2pmem: 1 }];
  const { error } = targetConfigSchema.safeParse({ subsystems: [{ nqn: NQN, namespaces }] });
  expect(error?.issues).toMatchObject([
    {
      path: ["subsystems", 0, "namespaces", 0, "p2pmem"],
      message: expect.stringContaining("backend: ssd"),
    },
  ]);
});

const BACKENDS = ["ssd", "cpu"] as const;

it.each(BACKENDS)("%s: gives the space of zeroed blocks back where it can", async (backend) => {
  const folder = await mkdtemp(join(tmpdir(), "peerlane-deac-"));
  const file = join(folder, "disk.img");
  const server = await TargetServer.open({
    machine: sameSwitch(),
    config: simpleConfig({
      listen: [{ address: "127.0.0.1", port: 0 }],
      nqn: NQN,
      allowedHosts: [],
      namespaces: [{ sizeBytes: 4 * 2 ** 20, file, backend }],
    }),
    network: realNetwork,
    clock: realClock,
    onEvent: () => undefined,
    onError: (error) => expect.fail(String(error)),
  });
  const { host, loop } = hostFor(server, NQN);
  await host.connect();
  const length = 2 ** 20;
  const bytes = new Uint8Array(length).fill(0x77);
  const buffer = await host.register(cpuMemory({ phys: physAddr(0), bytes }), 0, length);
  const io = (opcode: number, deac = 0) =>
    run(host, (command) => {
      command.opcode = opcode;
      command.setRange(0, length / 512, false);
      command.dwords[2] = (command.dwords[2] as number) | deac;
      if (opcode !== NvmOpcode.writeZeroes) command.setData(buffer, 0, length);
    });
  const used = async (): Promise<number> => {
    expect(await run(host, (command) => (command.opcode = NvmOpcode.flush))).toBe(0);
    return (await stat(file)).blocks * 512;
  };
  const identify = viewOf(await host.identify(Cns.namespace, 1));
  const { DLFEAT } = IdNs;
  expect(DLFEAT.get(identify)).toBe(DLFEAT_READ_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATE);
  expect(await io(NvmOpcode.write)).toBe(0);
  const full = await used();
  expect(full).toBeGreaterThanOrEqual(length);
  // Without DEAC the blocks keep their space.
  expect(await io(NvmOpcode.writeZeroes)).toBe(0);
  expect(await used()).toBe(full);
  expect(await io(NvmOpcode.writeZeroes, IO_DEAC.bits)).toBe(0);
  expect(await used()).toBeLessThanOrEqual(full - length + 8192);
  bytes.fill(1);
  expect(await io(NvmOpcode.read)).toBe(0);
  expect(bytes.every((byte) => byte === 0)).toBe(true);
  await host.disconnect();
  loop.stop();
  await server.close();
  await rm(folder, { recursive: true });
});
