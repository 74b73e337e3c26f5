/** What Linux and the target say to each other, recorded by the target and judged by tshark. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect } from "vitest";
import { TcpPdu } from "../../../src/spec/nvmf/index.ts";
import { dissect, findTshark, TSHARK_MISSING } from "../../../testing/tshark.ts";
import { lab, step } from "../lab.ts";

const REMEDY = "tshark -r the capture with -d tcp.port==PORT,nvme-tcp -V; docs/guide/target.md";

const MODES = [
  { name: "linux-plain", options: "--nr-io-queues 1" },
  { name: "linux-digests", options: "--nr-io-queues 2 --hdr-digest --data-digest" },
];

describe("captures", () => {
  step(
    "of Linux: nothing malformed, both digests right, data and commands of both directions",
    { seconds: 90, remedy: REMEDY },
    async (guest) => {
      if (findTshark() === null) throw new Error(TSHARK_MISSING);
      // Compresses well: what is recorded here is kept in testing/captures.
      await guest.sh("yes peerlane | head -c 300000 > /tmp/data");
      for (const { name, options } of MODES) {
        const file = lab.file(`${name}.pcapng`);
        const target = await lab.target("-n", "size=64M", "--capture", file);
        const { controller, device } = await lab.connect(target, options);
        await guest.sh(
          `cd /tmp; nvme write ${device} -s 0 -c 0 -z 512 -d /tmp/data
          dd if=/tmp/data of=${device} bs=4k count=2 oflag=direct
          dd if=/tmp/data of=${device} bs=64k count=1 oflag=direct conv=fsync
          nvme read ${device} -s 0 -c 31 -z 16384 -d /tmp/back; cmp -n 16384 /tmp/data /tmp/back
          nvme flush ${device}; nvme write-zeroes ${device} -s 0 -c 7; nvme dsm ${device} -s 8 -b 8 -d
          nvme id-ctrl /dev/${controller}; nvme smart-log /dev/${controller}
          nvme get-feature /dev/${controller} -f 7; nvme io-passthru ${device} -O 0x99 -n 1; true`,
        );
        await guest.sh("nvme disconnect-all");
        await target.stop();
        const { PEERLANE_KEEP_CAPTURES: keep } = process.env;
        if (keep) {
          const packed = gzipSync(readFileSync(file), { level: 9 });
          writeFileSync(join(keep, `${name}.pcapng.gz`), packed);
        }
        const found = dissect(file, [target.port]);
        expect(found.complaints).toEqual([]);
        const hasDigests = name === "linux-digests";
        // The Admin Queue, and one I/O queue or two.
        expect(found.connections).toBe(hasDigests ? 3 : 2);
        expect(found.received[TcpPdu.ICREQ]).toBe(found.connections);
        expect(found.received[TcpPdu.H2C_DATA]).toBeGreaterThan(0);
        expect(found.sent[TcpPdu.C2H_DATA]).toBeGreaterThan(10);
        expect(found.goodHeaderDigests > 50).toBe(hasDigests);
        expect(found.goodDataDigests > 10).toBe(hasDigests);
      }
    },
  );
});
