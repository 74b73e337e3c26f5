/** Discover, connect, and a file system that survives: the life of a disk that Linux uses. */
import { execFileSync } from "node:child_process";
import { describe, expect } from "vitest";
import { expectGolden } from "../golden.ts";
import { HOST_ADDRESS } from "../guest.ts";
import { lab, step } from "../lab.ts";
import { kitCommand } from "../packages.ts";
import { NQN } from "../target-process.ts";

describe("a disk that Linux uses", () => {
  step(
    "nvme discover finds the subsystem",
    { remedy: "nvmet/target.ts makes the discovery log; spec/nvmf has its layout" },
    async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const text = await guest.sh(`nvme discover -t tcp -a ${HOST_ADDRESS} -s ${target.port}`);
      await expectGolden("discover", text, [[String(target.port), "PORT"]]);
      expect(text).toContain(NQN);
    },
  );

  step(
    "mkfs.ext4, mount, files, unmount, fsck; the same after another connect and another target",
    { seconds: 120, remedy: "see the guest's console for I/O errors, then the target's log" },
    async (guest) => {
      const disk = lab.file("ext4.img");
      const target = await lab.target("-n", `size=256M,file=${disk}`);
      const first = await lab.connect(target);
      const list = await guest.sh("nvme list");
      expect(list).toContain(first.device);
      expect(list).toContain("268.44");
      await guest.sh(`mkfs.ext4 -q ${first.device} && mount ${first.device} /mnt`);
      await guest.sh(
        "cd /mnt && mkdir -p a/b c && " +
          "for i in 1 2 3 4 5 6 7 8 9 10; do head -c $((i * 100003)) /dev/urandom > a/b/$i; done && " +
          "head -c 20000000 /dev/urandom > c/big && ln -s a/b/3 link && rm a/b/4 && " +
          "find . -type f ! -name sums -exec sha256sum {} + > /tmp/sums && cp /tmp/sums sums",
        60,
      );
      await guest.sh(`umount /mnt && fsck.ext4 -fn ${first.device}`);
      await guest.sh("nvme disconnect-all");

      const second = await lab.connect(target);
      await guest.sh(`mount ${second.device} /mnt && cmp /tmp/sums /mnt/sums`);
      await guest.sh("cd /mnt && sha256sum -c -s sums", 60);
      await guest.sh("umount /mnt && nvme disconnect-all");
      await target.stop();

      // What lies in the file, seen without any NVMe: the same check on this machine.
      const { root } = await lab.kit();
      const [loader = "", ...args] = kitCommand(root, "usr/sbin/e2fsck", ["-fn", disk]);
      expect(execFileSync(loader, args, { encoding: "utf8" })).toMatch(/\d+\/\d+ files/);
      await target.start();
      const third = await lab.connect(target);
      await guest.sh(`mount ${third.device} /mnt && cd /mnt && sha256sum -c -s sums`, 60);
    },
  );
});
