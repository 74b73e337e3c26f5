/**
 * `nvme` commands of every kind, their output kept as golden text: what an administrator sees.
 * One file of golden text per group. In a command, DEV is the block device and CTRL the controller.
 */
import { describe } from "vitest";
import { expectGolden, type Replacements } from "../golden.ts";
import { lab, step } from "../lab.ts";

const REMEDY =
  "read the diff: the field's own name leads to src/nvmet/admin. If the new text is right, " +
  "npm run test:kernel -- -t commands -u";

/** What differs from run to run, or counts what ran before. */
const VARIABLE: Replacements = [
  [/trsvcid=\d+/g, "trsvcid=PORT"],
  [/^(cmdid\s*: ).*$/gm, "$1N"],
  [/^((?:Data Units (?:Read|Written)|host_(?:read|write)_commands)\s*: ).*$/gm, "$1N"],
  [/^((?:error_count|num_err_log_entries|sqid)\s*: )[1-9].*$/gm, "$1N"],
];

const GROUPS: Readonly<Record<string, readonly string[]>> = {
  identify: [
    "list",
    "list-subsys",
    "list-ns DEV",
    "id-ctrl -H CTRL",
    "id-ns -H DEV",
    "ns-descs DEV",
    "cmdset-ind-id-ns DEV",
    "nvm-id-ctrl CTRL",
    "nvm-id-ns DEV",
    "id-iocs CTRL",
    "get-ns-id DEV",
    "id-ns CTRL -n 2",
    "id-ns CTRL -n 0",
    "id-ns CTRL -n 5000",
    "ns-descs CTRL -n 2",
    "list-ctrl CTRL",
    "id-nvmset CTRL",
    "primary-ctrl-caps CTRL",
    "list-secondary CTRL",
    "id-domain CTRL",
    "list-endgrp CTRL",
  ],
  registers: [
    "show-regs -H CTRL",
    "get-property CTRL -O 0x0",
    "get-property CTRL -O 0x8",
    "get-property CTRL -O 0x1c",
    "get-property CTRL -O 0x1000",
    "set-property CTRL -O 0x1c -V 1",
  ],
  logs: [
    "supported-log-pages CTRL",
    "smart-log CTRL",
    "smart-log DEV -n 1",
    "fw-log CTRL",
    "ana-log CTRL",
    "changed-ns-list-log CTRL",
    "effects-log CTRL",
    "get-log CTRL -i 2 -l 16",
    "get-log CTRL -i 2 -l 16 -L 256",
    "get-log CTRL -i 2 -l 16 -L 100000",
    "get-log CTRL -i 0x7 -l 512",
    "telemetry-log CTRL -O /tmp/telemetry",
    "self-test-log CTRL",
    "sanitize-log CTRL",
    "endurance-log CTRL",
    "persistent-event-log CTRL -a 0 -l 512",
    "predictable-lat-log CTRL",
    "lba-status-log CTRL",
    "fid-support-effects-log CTRL",
    "get-log CTRL -i 0x70 -l 1024",
  ],
  features: [
    ...[1, 2, 4, 6, 7, 8, 0xa, 0xb, 0xf, 0x16, 0x80].map((fid) => `get-feature CTRL -f ${fid} -H`),
    ...[5, 0x82, 0x84].map((fid) => `get-feature DEV -f ${fid} -H`),
    "get-feature CTRL -f 0x81 --data-len 16 -c 1",
    "get-feature CTRL -f 7 -s 3",
    "get-feature CTRL -f 6 -s 3",
    "get-feature CTRL -f 0xb -s 1",
    "set-feature CTRL -f 0xb -V 0x100",
    "get-feature CTRL -f 0xb",
    "set-feature CTRL -f 0xb -V 0x900",
    "set-feature CTRL -f 0xb -V 0xffffffff",
    "set-feature CTRL -f 0xf -V 10000",
    "get-feature CTRL -f 0xf",
    "set-feature CTRL -f 0xf -V 5000 -s",
    "set-feature CTRL -f 2 -V 1",
    "set-feature CTRL -f 6 -V 0",
    "set-feature DEV -f 0x84 -V 1",
    "write DEV -s 0 -c 0 -z 512 -d /tmp/data",
    "set-feature DEV -f 0x84 -V 0",
    "write DEV -s 0 -c 0 -z 512 -d /tmp/data",
  ],
  io: [
    "write DEV -s 0 -c 15 -z 8192 -d /tmp/data",
    "read DEV -s 0 -c 15 -z 8192 -d /tmp/back",
    "compare DEV -s 0 -c 15 -z 8192 -d /tmp/data",
    "compare DEV -s 8 -c 15 -z 8192 -d /tmp/data",
    "write-zeroes DEV -s 0 -c 7",
    "compare DEV -s 0 -c 7 -z 4096 -d /dev/zero",
    "write-zeroes DEV -s 8 -c 7 --deac",
    "compare DEV -s 8 -c 7 -z 4096 -d /dev/zero",
    "write-zeroes DEV -s 0x1ffff -c 7",
    "dsm DEV -s 0,64 -b 8,8 -d",
    "dsm DEV -s 0x1ffff -b 8 -d",
    "verify DEV -s 0 -c 7",
    "verify DEV -s 0x20000 -c 0",
    "flush DEV",
    "read DEV -s 0x1ffff -c 0 -z 512 -d /tmp/back",
    "read DEV -s 0x1ffff -c 1 -z 1024 -d /tmp/back",
    "write DEV -s 0x20000 -c 0 -z 512 -d /tmp/data",
    "read DEV -s 0xffffffffffffffff -c 0 -z 512 -d /tmp/back",
    "read DEV -s 0 -c 2047 -z 1048576 -d /tmp/back",
    "io-passthru DEV -O 2 -n 1 -l 512 --cdw12=7 -r",
    "io-passthru DEV -O 2 -n 1 -l 4096 --cdw12=0 -r",
    "io-passthru DEV -O 1 -n 1 -l 4096 --cdw12=0 -w -i /tmp/data",
    "io-passthru DEV -O 2 -n 1 --cdw12=0",
    "io-passthru DEV -O 1 -n 1 --cdw12=0",
    "io-passthru DEV -O 0x99 -n 1",
    "write-uncor DEV -s 0 -c 0",
    "error-log CTRL -e 2",
  ],
  reservations: [
    "resv-report DEV --eds",
    "resv-register DEV --nrkey=0x11 --rrega=0",
    "resv-acquire DEV --crkey=0x11 --rtype=1 --racqa=0",
    "resv-report DEV --eds",
    "resv-acquire DEV --crkey=0x22 --rtype=1 --racqa=0",
    "resv-release DEV --crkey=0x11 --rtype=1 --rrela=0",
    "resv-register DEV --crkey=0x11 --rrega=1",
    "resv-report DEV --eds",
  ],
  copy: [
    "write DEV -s 0 -c 15 -z 8192 -d /tmp/data",
    "copy DEV -d 64 -s 0 -b 15",
    "compare DEV -s 64 -c 15 -z 8192 -d /tmp/data",
    "copy DEV -d 128 -s 8,0 -b 7,7",
    "copy DEV -d 0x1ffff -s 0 -b 15",
  ],
  refused: [
    "format DEV -l 0 -f",
    "sanitize CTRL -a 2",
    "security-send CTRL -p 1 -t 16 -s 0 -f /etc/passwd",
    "security-recv CTRL -p 0 -x 16 -t 16 -s 0",
    "create-ns CTRL -s 100 -c 100 -f 0",
    "delete-ns CTRL -n 1",
    "attach-ns CTRL -n 1 -c 1",
    "fw-commit CTRL -s 1 -a 1",
    "fw-download CTRL -f /tmp/data",
    "device-self-test CTRL -s 1",
    "dir-receive DEV -D 0 -O 1 -l 4096",
    "virt-mgmt CTRL -c 1 -r 0 -a 1 -n 1",
    "capacity-mgmt CTRL -O 0",
    "lockdown CTRL -O 0",
    "get-lba-status DEV -s 0 -m 16 -a 0x11 -l 1",
    "admin-passthru CTRL -O 0x00",
    "admin-passthru CTRL -O 0x05",
    "admin-passthru CTRL -O 0xc0",
    "subsystem-reset CTRL",
  ],
};

describe("nvme commands", () => {
  for (const [group, commands] of Object.entries(GROUPS)) {
    step(`${group}`, { seconds: 90, remedy: REMEDY }, async (guest) => {
      const target = await lab.target("-n", "size=64M");
      const { controller, device } = await lab.connect(target);
      const lines = commands.map((command) =>
        `nvme ${command}`.replace("DEV", device).replace("CTRL", `/dev/${controller}`),
      );
      const each = lines.map((line) => `echo '$ ${line}'\n${line} </dev/null 2>&1\necho`);
      const prepare = "head -c 8192 /dev/urandom > /tmp/data; cd /tmp";
      const text = await guest.sh(`${prepare}\n${each.join("\n")}\ntrue`, 80);
      await expectGolden(group, text, VARIABLE);
    });
  }
});
