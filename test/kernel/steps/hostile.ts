/** Peers that are no NVMe hosts, while Linux works. */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect } from "vitest";
import { Prng } from "../../../src/core/index.ts";
import { fio, type Job } from "../fio.ts";
import { HOST_ADDRESS } from "../guest.ts";
import { lab, step } from "../lab.ts";

const LOAD: Job = { rw: "randwrite", bs: "4k", iodepth: 16, size: "8M", rate_iops: 400 };
const SILENT = 40;
const NOISY = 150;
const GROWTH_BYTES_MAX = 200e6;

const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * 1024;

function open(port: number, bytes: Uint8Array | null): Socket {
  const socket = connect({ port, host: HOST_ADDRESS });
  socket.on("error", () => undefined);
  if (bytes !== null) socket.write(bytes);
  return socket;
}

/** Bytes of one hostile connection: noise, or noise behind a header that looks right. */
function noise(prng: Prng, i: number): Uint8Array {
  const bytes = new Uint8Array(16 + prng.below(5000));
  prng.fill(bytes);
  // ICReq, 128 bytes; CapsuleCmd; H2CData with a length that promises much.
  const heads = [
    [0, 0, 128, 0, 128, 0, 0, 0],
    [4, 0, 72, 0, 72, 0, 0, 0],
    [6, 0, 24, 24, 0, 0, 0, 1],
  ];
  if (i % 2 === 1) bytes.set(heads[prng.below(heads.length)] ?? []);
  return bytes;
}

describe("hostile peers", () => {
  step(
    "connections that say nothing, and ones that talk nonsense: Linux's I/O goes on, memory is bounded",
    { seconds: 90, remedy: "nvmet/transports/tcp: pdu-reader, target-transport; limits in core" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const { device } = await lab.connect(target);
      const before = residentBytes(target.pid);
      const load = fio(guest, device, [LOAD], 60);
      const prng = new Prng(20261124);
      const silent = Array.from({ length: SILENT }, () => open(target.port, null));
      for (let i = 0; i < NOISY; i++) {
        const socket = open(target.port, noise(prng, i));
        await sleep(10);
        if (i % 3 === 0) socket.destroy();
        else silent.push(socket);
      }
      await load;
      expect(target.isRunning).toBe(true);
      expect(residentBytes(target.pid) - before).toBeLessThan(GROWTH_BYTES_MAX);
      for (const socket of silent) socket.destroy();
      // And it still takes a new host.
      await guest.sh("nvme disconnect-all");
      await lab.connect(target);
    },
  );
});
