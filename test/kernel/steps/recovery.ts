/** What Linux does when the target, the network or Linux itself goes away for a while. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect } from "vitest";
import { fio, fioCommand, type Job } from "../fio.ts";
import type { Guest } from "../guest.ts";
import { lab, step } from "../lab.ts";

/** Verified writes that last some seconds, however fast the machine is. */
const LOAD: Job = { rw: "randwrite", bs: "4k", iodepth: 16, size: "12M", rate_iops: 500 };
const LOAD_SECONDS = 50;
const RECONNECT = "--reconnect-delay 1 --ctrl-loss-tmo 60";

/** Behind what is flushed. */
const FUA_LBA = 65_536;

const stateOf = async (guest: Guest, controller: string): Promise<string> =>
  (await guest.run(`cat /sys/class/nvme/${controller}/state`)).output.trim();

async function waitForState(guest: Guest, controller: string, state: string, seconds = 20) {
  const isThere = async () => (await stateOf(guest, controller)) === state;
  await lab.until(isThere, `${controller} to be ${state}`, seconds);
}

describe("losing and finding the target", () => {
  step(
    "nvme reset, twice, under load: I/O goes on",
    { seconds: 90, remedy: "nvmet/properties.ts (CC.EN, SHN) and controller.ts (association end)" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const { controller, device } = await lab.connect(target, RECONNECT);
      const load = fio(guest, device, [LOAD], LOAD_SECONDS);
      for (let i = 0; i < 2; i++) {
        await sleep(2000);
        await guest.sh(`nvme reset /dev/${controller}`);
        await waitForState(guest, controller, "live");
      }
      await load;
    },
  );

  step(
    "disconnect under load: I/O ends with an error, nothing hangs, another connect finds the data",
    { seconds: 90, remedy: "see which task hangs in the guest's console" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const { device } = await lab.connect(target);
      await guest.sh("head -c 4000000 /dev/urandom > /tmp/kept");
      await guest.sh(`dd if=/tmp/kept of=${device} bs=1M seek=40 conv=fsync`);
      const load = guest.run(fioCommand(device, [LOAD]), LOAD_SECONDS);
      await sleep(2000);
      await guest.sh("nvme disconnect-all");
      expect((await load).status).not.toBe(0);
      const again = await lab.connect(target);
      await guest.sh(`dd if=${again.device} bs=1M skip=40 | head -c 4000000 | cmp - /tmp/kept`);
    },
  );

  step(
    "the target is killed twice under load and started again: I/O resumes, every block verifies",
    {
      seconds: 120,
      remedy: "fabric's FileStore and nvmet/controller.ts; reconnects are in the log",
    },
    async (guest) => {
      const target = await lab.target("-n", `size=64M,file=${lab.file("killed.img")}`);
      const { controller, device } = await lab.connect(target, RECONNECT);
      const load = fio(guest, device, [LOAD], LOAD_SECONDS * 2);
      for (let i = 0; i < 2; i++) {
        await sleep(2000);
        await target.signal("SIGKILL");
        await waitForState(guest, controller, "connecting");
        await target.start();
        await waitForState(guest, controller, "live", 30);
      }
      await load;
    },
  );

  step(
    "what was flushed, or written with FUA, is in the file when the target was killed",
    { remedy: "platform/block-file.ts: Flush is an fdatasync, and so is FUA" },
    async (guest) => {
      const disk = lab.file("flushed.img");
      const target = await lab.target("-n", `size=64M,file=${disk}`);
      const { controller, device } = await lab.connect(target, RECONNECT);
      await guest.sh("head -c 3000000 /dev/urandom > /tmp/data");
      await guest.sh(`dd if=/tmp/data of=${device} bs=1M conv=fsync`);
      await guest.sh("head -c 65536 /dev/urandom > /tmp/fua");
      const fua = "-c 127 -z 65536 -d /tmp/fua --force-unit-access";
      await guest.sh(`nvme write ${device} -s ${FUA_LBA} ${fua}`);
      await target.signal("SIGKILL");
      const bytes = readFileSync(disk);
      const digest = (from: number, length: number) =>
        createHash("sha256")
          .update(bytes.subarray(from, from + length))
          .digest("hex");
      const wanted = (await guest.sh("cd /tmp && sha256sum data fua")).split("\n");
      expect(wanted[0]).toContain(digest(0, 3_000_000));
      expect(wanted[1]).toContain(digest(FUA_LBA * 512, 65_536));
      await target.start();
      await waitForState(guest, controller, "live", 30);
      await guest.sh("echo 3 > /proc/sys/vm/drop_caches");
      await guest.sh(`head -c 3000000 ${device} | cmp - /tmp/data`);
    },
  );

  step(
    "a target that stays away: after ctrl-loss-tmo the controller goes and I/O fails",
    { remedy: "Linux's own doing: see the guest's console" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const { controller, device } = await lab.connect(
        target,
        "--reconnect-delay 1 --ctrl-loss-tmo 3",
      );
      await target.signal("SIGKILL");
      const { status } = await guest.run(
        `dd if=/dev/zero of=${device} bs=4k count=1 oflag=direct`,
        30,
      );
      expect(status).not.toBe(0);
      const isGone = async () =>
        (await guest.run(`[ ! -e /sys/class/nvme/${controller} ]`)).status === 0;
      await lab.until(isGone, "the controller to go");
    },
  );

  step(
    "a target that stops answering: keep-alive notices, and the path heals when it goes on",
    { seconds: 90, remedy: "nvmet/controller.ts: keep-alive expiry ends the old association" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const options = `${RECONNECT} --keep-alive-tmo 1`;
      const { controller, device } = await lab.connect(target, options);
      const load = fio(guest, device, [LOAD], LOAD_SECONDS);
      await sleep(1000);
      await target.signal("SIGSTOP");
      await waitForState(guest, controller, "connecting");
      await target.signal("SIGCONT");
      await waitForState(guest, controller, "live", 30);
      await load;
    },
  );

  step(
    "a Linux that stops: the target ends its association, and Linux comes back with another",
    { seconds: 90, remedy: "nvmet/controller.ts: keep-alive expiry" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const options = `${RECONNECT} --keep-alive-tmo 2`;
      const { controller, device } = await lab.connect(target, options);
      const load = fio(guest, device, [LOAD], LOAD_SECONDS);
      await sleep(1000);
      guest.pause();
      try {
        await lab.until(async () => /keep-alive/i.test(target.log), "the target to notice", 15);
      } finally {
        guest.resume();
      }
      await load;
      await waitForState(guest, controller, "live");
    },
  );
});
