/** What Linux and the target say to each other, recorded by the target and judged by tshark. */
import { copyFileSync } from "node:fs";
import { describe, expect } from "vitest";
import { TcpPdu } from "../../../src/spec/nvmf/index.ts";
import { dissect, findTshark, TSHARK_MISSING } from "../../../testing/tshark.ts";
import { lab, step } from "../lab.ts";

const REMEDY = "tshark -r the capture with -d tcp.port==PORT,nvme-tcp -V; docs/guide/target.md";

describe("captures", () => {
  step(
    "of Linux: nothing malformed, both digests right, data and commands of both directions",
    { seconds: 90, remedy: REMEDY },
    async (guest) => {
      if (findTshark() === null) throw new Error(TSHARK_MISSING);
      const file = lab.file("linux.pcapng");
      const target = await lab.target("-n", "size=64M", "--capture", file);
      await guest.sh("head -c 300000 /dev/urandom > /tmp/data");
      for (const options of ["--nr-io-queues 1", "--nr-io-queues 2 --hdr-digest --data-digest"]) {
        const { controller, device } = await lab.connect(target, options);
        await guest.sh(
          `cd /tmp; dd if=/tmp/data of=${device} bs=4k count=8 oflag=direct
          nvme write ${device} -s 0 -c 0 -z 512 -d /tmp/data
          nvme read ${device} -s 0 -c 255 -z 131072 -d /tmp/back
          dd if=/tmp/data of=${device} bs=64k count=4 oflag=direct conv=fsync
          nvme flush ${device}; nvme write-zeroes ${device} -s 0 -c 7; nvme dsm ${device} -s 8 -b 8 -d
          nvme id-ctrl /dev/${controller}; nvme smart-log /dev/${controller}
          nvme get-feature /dev/${controller} -f 7; nvme io-passthru ${device} -O 0x99 -n 1; true`,
        );
        await guest.sh("nvme disconnect-all");
      }
      await target.stop();
      const { PEERLANE_KEEP_CAPTURE: keep } = process.env;
      if (keep) copyFileSync(file, keep);
      const found = dissect(file, [target.port]);
      expect(found.complaints).toEqual([]);
      // Two Admin Queues, three I/O queues.
      expect(found.connections).toBe(5);
      expect(found.received[TcpPdu.ICREQ]).toBe(5);
      expect(found.received[TcpPdu.H2C_DATA]).toBeGreaterThanOrEqual(8);
      expect(found.sent[TcpPdu.C2H_DATA]).toBeGreaterThan(20);
      expect(found.goodHeaderDigests).toBeGreaterThan(50);
      expect(found.goodDataDigests).toBeGreaterThan(20);
    },
  );
});
