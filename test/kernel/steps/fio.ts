/** Random I/O, verified: depths, block sizes, digests. */
import { describe } from "vitest";
import { fio } from "../fio.ts";
import { lab, step } from "../lab.ts";

const REMEDY =
  "a wrong checksum names the offset: compare nvmet's PDU data offsets (transports/tcp) with it";

/** Small blocks, large ones, all mixed; alone, and many at a time. */
const JOBS = [
  { rw: "randwrite", bs: 512, iodepth: 1, size: "128k", offset: 0 },
  { rw: "randwrite", bs: 512, iodepth: 64, size: "512k", offset: "1M" },
  { rw: "randrw", rwmixread: 30, bs: "4k", iodepth: 32, size: "4M", offset: "2M" },
  { rw: "randwrite", bsrange: "512-128k", iodepth: 16, size: "6M", offset: "8M" },
  { rw: "randwrite", bs: "64k", iodepth: 8, size: "4M", offset: "16M" },
  { rw: "write", bs: "1M", iodepth: 4, size: "8M", offset: "32M" },
  { rw: "randwrite", bsrange: "512-1M", iodepth: 32, size: "12M", offset: "48M" },
];

const DIGESTS = [
  ["no digests", ""],
  ["header digest", "--hdr-digest"],
  ["header and data digest", "--hdr-digest --data-digest"],
] as const;

describe("fio --verify", () => {
  for (const [name, options] of DIGESTS) {
    step(
      `block sizes 512 B to 1 MiB, depths 1 to 64: ${name}`,
      { seconds: 120, remedy: REMEDY },
      async (guest) => {
        const target = await lab.target("-n", "size=64M");
        const { device } = await lab.connect(target, options);
        // A read in the mixed job finds what fio has not written yet, and does not count it.
        await fio(guest, device, JOBS, 100);
      },
    );
  }

  step(
    "the same without an SSD: from memory, and from a file with FUA and flushes",
    {
      seconds: 180,
      remedy: "nvmet/store-queue.hot.ts has the blocks; tcp/target-channel sends them",
    },
    async (guest) => {
      const file = lab.file("store.img");
      const target = await lab.target(
        ...["-n", "size=64M,backend=cpu"],
        ...["-n", `size=64M,file=${file},backend=cpu`],
      );
      const { device } = await lab.connect(target, "--data-digest");
      await fio(guest, device, JOBS, 100);
      const second = device.replace(/n1$/, "n2");
      const each = { numjobs: 2, offset_increment: "16M", size: "2M", iodepth: 8 };
      await fio(guest, second, [{ rw: "randwrite", bs: "4k", fsync: 64, ...each }], 60);
    },
  );

  step(
    "four processes on four queues, FUA and flushes among them, on a file",
    { seconds: 90, remedy: REMEDY },
    async (guest) => {
      const target = await lab.target("-n", `size=64M,file=${lab.file("queues.img")}`);
      const { device } = await lab.connect(target, "--nr-io-queues 4 --data-digest");
      const each = { numjobs: 4, offset_increment: "16M", size: "2M", iodepth: 8 };
      await fio(
        guest,
        device,
        [
          { rw: "randwrite", bs: "4k", fsync: 64, ...each },
          { rw: "randwrite", bs: "16k", sync: "dsync", ...each },
        ],
        80,
      );
    },
  );
});
