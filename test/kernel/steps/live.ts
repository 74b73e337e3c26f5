/** A target that changes while Linux uses it: nobody rescans, the target tells. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { fio } from "../fio.ts";
import { lab, step } from "../lab.ts";
import { NQN, targetctl } from "../target-process.ts";

const REMEDY = "asynchronous events (nvmet/admin/events.ts), changed namespace list, ANA log";

/** Skipped, and counted as that, until `peerlane targetctl` is there. */
const CONTROL = join(import.meta.dirname, "../../../src/cli/commands/targetctl.ts");

describe.skipIf(!existsSync(CONTROL))("changes to a running target", () => {
  step(
    "a namespace that is added appears, serves, and goes again",
    { seconds: 90, remedy: REMEDY },
    async (guest) => {
      const socket = lab.file("live.sock");
      const target = await lab.target("-n", "size=64M", "--control", socket);
      const { device } = await lab.connect(target);
      const second = device.replace(/n\d+$/, "n2");
      targetctl(socket, "namespace", "add", `subsystem=${NQN}`, "nsid=2", "size=32M");
      const isThere = async () => (await guest.run(`[ -b ${second} ]`)).status === 0;
      await lab.until(isThere, `${second} to appear`);
      expect(await guest.sh("nvme list")).toContain(second);
      await fio(guest, second, [{ rw: "randwrite", bs: "4k", iodepth: 8, size: "1M" }]);
      targetctl(socket, "namespace", "remove", `subsystem=${NQN}`, "nsid=2");
      await lab.until(async () => !(await isThere()), `${second} to go`);
      await guest.sh(`dd if=${device} of=/dev/null bs=64k count=8 iflag=direct`);
    },
  );

  step(
    "the state of a path changes, and Linux follows",
    { seconds: 90, remedy: REMEDY },
    async (guest) => {
      const socket = lab.file("ana.sock");
      const target = await lab.target("-n", "size=64M", "--control", socket);
      const { device } = await lab.connect(target);
      const set = (state: string) =>
        targetctl(socket, "ana", "set", "portid=1", "grpid=1", `ana_state=${state}`);
      const sees = (state: string) =>
        lab.until(
          async () => (await guest.sh(`nvme list-subsys ${device}`)).includes(` live ${state}`),
          `the path to be ${state}`,
        );
      await sees("optimized");
      set("non-optimized");
      await sees("non-optimized");
      set("optimized");
      await sees("optimized");
      await fio(guest, device, [{ rw: "randwrite", bs: "4k", iodepth: 8, size: "1M" }]);
    },
  );
});
