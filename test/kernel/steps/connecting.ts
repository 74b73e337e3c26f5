/** Ways to connect: right, odd and wrong. */
import { describe, expect } from "vitest";
import { type Guest, HOST_ADDRESS } from "../guest.ts";
import { HOST_NQN } from "../initramfs.ts";
import { lab, step } from "../lab.ts";
import { NQN } from "../target-process.ts";

const REMEDY = "nvmet/connect.ts answers Connect; the guest's console has the kernel's words";
const OTHER_HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

/** Connects, and returns what the kernel said since. */
async function attempt(guest: Guest, port: number, options: string) {
  await guest.sh("dmesg -c > /dev/null");
  const at = `-t tcp -a ${HOST_ADDRESS} -s ${port}`;
  const { status } = await guest.run(`nvme connect ${at} ${options}`);
  return { status, kernel: await guest.sh("dmesg") };
}

describe("connecting", () => {
  step(
    "refused: a wrong subsystem, a host that may not, a malformed host name; with the right reason",
    { remedy: REMEDY },
    async (guest) => {
      const target = await lab.target("-n", "size=64M", "--allow-host", HOST_NQN);
      const refusals = [
        [`-n nqn.2026-11.dev.peerlane:other`, "Connect Invalid Data Parameter, subsysnqn"],
        [`-n ${NQN} -q ${OTHER_HOST}`, "Connect for subsystem.*is not allowed, hostnqn"],
        [`-n ${NQN} -q nonsense`, "Connect Invalid Data Parameter, hostnqn"],
      ] as const;
      for (const [options, words] of refusals) {
        const { status, kernel } = await attempt(guest, target.port, options);
        expect(status).not.toBe(0);
        expect(kernel).toMatch(new RegExp(words));
      }
      expect((await attempt(guest, target.port, `-n ${NQN}`)).status).toBe(0);
    },
  );

  step(
    "1 to 8 queues, of 16 to 1024 entries, with poll and write queues; each reads and writes",
    { seconds: 120, remedy: REMEDY },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      await guest.sh("head -c 100000 /dev/urandom > /tmp/data");
      for (const [options, queues] of [
        ["-i 1 -Q 16", "1/0/0"],
        ["-i 2 -Q 64", "2/0/0"],
        ["-i 3 -Q 1024", "3/0/0"],
        ["-i 4 -Q 128", "4/0/0"],
        ["-i 2 -W 2 -P 2", "2/2/2"],
        ["-i 2 -P 4 --disable-sqflow --hdr-digest", "2/0/4"],
        ["-i 8 -T 3 -k 1 --data-digest", "4/0/0"],
      ]) {
        await guest.sh("dmesg -c > /dev/null");
        const { device } = await lab.connect(target, options);
        expect(await guest.sh("dmesg")).toContain(`mapped ${queues} default/read/poll queues`);
        await guest.sh(`dd if=/tmp/data of=${device} bs=4k conv=fsync`);
        await guest.sh(
          `echo 3 > /proc/sys/vm/drop_caches; head -c 100000 ${device} | cmp - /tmp/data`,
        );
        await guest.sh("nvme disconnect-all");
      }
    },
  );

  step(
    "a second connect is the kernel's to refuse; a forced one is a second controller",
    { remedy: REMEDY },
    async (guest) => {
      const target = await lab.target("-n", "size=64M", "-n", "size=32M");
      const { controller, device } = await lab.connect(target);
      const again = await attempt(guest, target.port, `-n ${NQN}`);
      expect(again.status).not.toBe(0);
      expect((await attempt(guest, target.port, `-n ${NQN} --duplicate-connect`)).status).toBe(0);
      const subsystems = await guest.sh("nvme list-subsys");
      expect(subsystems.match(/ live/g)).toHaveLength(2);
      await guest.sh(`nvme ns-rescan /dev/${controller}`);
      const list = await guest.sh("nvme list");
      expect(list.match(/^\/dev\/nvme\d+n\d/gm)).toHaveLength(2);
      await guest.sh(`nvme disconnect -d ${controller}`);
      await guest.sh(`dd if=${device} of=/dev/null bs=64k count=16 iflag=direct`);
    },
  );

  step(
    "a target that listens on all addresses names a usable one",
    { remedy: REMEDY },
    async (guest) => {
      const target = await lab.configured((port) => ({
        subsystems: [
          { nqn: NQN, attr_allow_any_host: true, namespaces: [{ nsid: 1, size: "64M" }] },
        ],
        ports: [{ portid: 1, addr_traddr: "0.0.0.0", addr_trsvcid: port, subsystems: [NQN] }],
      }));
      await guest.sh(`nvme connect-all -t tcp -a ${HOST_ADDRESS} -s ${target.port}`);
      expect(await guest.sh("nvme list-subsys")).toContain(`traddr=${HOST_ADDRESS},`);
    },
  );

  step("nvme connect-all follows the discovery log", { remedy: REMEDY }, async (guest) => {
    const target = await lab.target("-n", "size=64M");
    await guest.sh(`nvme connect-all -t tcp -a ${HOST_ADDRESS} -s ${target.port}`);
    expect(await guest.sh("nvme list-subsys")).toContain(`NQN=${NQN}`);
  });

  step("an old-style persistent discovery controller", { remedy: REMEDY }, async (guest) => {
    const target = await lab.target("-n", "size=64M");
    const at = `-t tcp -a ${HOST_ADDRESS} -s ${target.port}`;
    await guest.sh(`nvme discover ${at} --persistent -k 2`);
    const subsystems = await guest.sh("sleep 3; nvme list-subsys");
    expect(subsystems).toMatch(/nqn.2014-08.org.nvmexpress.discovery[\s\S]* live/);
  });
});
