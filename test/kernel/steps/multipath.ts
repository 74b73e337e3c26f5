/** Two paths to one subsystem. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect } from "vitest";
import { fio, type Job } from "../fio.ts";
import { HOST_ADDRESS } from "../guest.ts";
import { lab, step } from "../lab.ts";
import { Relay } from "../relay.ts";
import { freePort, NQN } from "../target-process.ts";

const LOAD: Job = { rw: "randwrite", bs: "4k", iodepth: 16, size: "12M", rate_iops: 500 };
const OPTIONS = "--reconnect-delay 1 --ctrl-loss-tmo 60 --keep-alive-tmo 2";

describe("multipath", () => {
  for (const how of ["cut", "silence"] as const) {
    const words = how === "cut" ? "is cut" : "swallows everything";
    step(
      `one of two paths ${words} under load: I/O goes on by the other, and the path comes back`,
      { seconds: 90, remedy: "nvmet/admin (CMIC, NMIC, ANA log); ANA state of each path in sysfs" },
      async (guest) => {
        const target = await lab.target("-n", "size=64M");
        const relay = await Relay.start(target);
        try {
          const { device, controller } = await lab.connect(relay, OPTIONS);
          await guest.sh(
            `nvme connect -t tcp -a ${HOST_ADDRESS} -s ${target.port} -n ${NQN} ${OPTIONS}`,
          );
          const paths = await guest.sh(`nvme list-subsys ${device}`);
          expect(paths.match(/ live/g)).toHaveLength(2);
          await guest.sh("echo round-robin > /sys/class/nvme-subsystem/nvme-subsys0/iopolicy");
          const load = fio(guest, device, [LOAD], 60);
          const state = async () =>
            (await guest.run(`cat /sys/class/nvme/${controller}/state`)).output.trim();
          await sleep(1500);
          relay[how]();
          await lab.until(async () => (await state()) === "connecting", "the path to be lost");
          await sleep(1500);
          relay.restore();
          await lab.until(async () => (await state()) === "live", "the path to come back", 30);
          await load;
        } finally {
          relay.close();
        }
      },
    );
  }

  step(
    "two ports with a state each: Linux sees optimized and inaccessible, and I/O takes the first",
    { remedy: "nvmet/admin/logs.ts (ANA log) and port.ts (states per group)" },
    async (guest) => {
      const second = await freePort();
      const at = { addr_traddr: HOST_ADDRESS, subsystems: [NQN] };
      const target = await lab.configured((first) => ({
        subsystems: [
          { nqn: NQN, attr_allow_any_host: true, namespaces: [{ nsid: 1, size: "64M" }] },
        ],
        ports: [
          { portid: 1, ...at, addr_trsvcid: first },
          {
            portid: 2,
            ...at,
            addr_trsvcid: second,
            ana_groups: [{ grpid: 1, ana_state: "inaccessible" }],
          },
        ],
      }));
      const { device } = await lab.connect(target);
      await guest.sh(`nvme connect -t tcp -a ${HOST_ADDRESS} -s ${second} -n ${NQN}`);
      const paths = await guest.sh(`nvme list-subsys ${device}`);
      expect(paths).toContain(`trsvcid=${target.port},src_addr=10.0.2.15 live optimized`);
      expect(paths).toContain(`trsvcid=${second},src_addr=10.0.2.15 live inaccessible`);
      await fio(guest, device, [{ rw: "randwrite", bs: "4k", iodepth: 8, size: "1M" }]);
    },
  );
});
