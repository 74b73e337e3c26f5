import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { describe, expect, test } from "vitest";
import { fakeSysfs } from "../../testing/fake-sysfs.ts";
import { readText, shippedPath } from "../../testing/recorded.ts";
import { formatBdf, parseBdf } from "../core/index.ts";
import { MemoryFiles } from "../platform/index.ts";
import { serializeMachine } from "./machine-json-write.ts";
import { importInputs, readMachine } from "./read-machine.ts";
import { isUnknown, type Machine, type PciFunction } from "./snapshot.ts";

const LSPCI = readText(shippedPath("02-two-root-ports/lspci.txt"));
const NN = `00:00.0 Host bridge [0600]: Intel Corporation Device [8086:29c0]
00:01.0 PCI bridge [0604]: Intel Corporation Device [8086:3420]
01:00.0 Non-Volatile memory controller [0108]: Samsung Electronics Co Ltd Device [144d:a824]
`;
const TREE = `-[0000:00]-+-00.0  Intel Corporation Device [8086:29c0]
           \\-01.0-[01]----00.0  Samsung Electronics Co Ltd Device [144d:a824]
`;
const text = (name: string, content: string) => ({
  name,
  bytes: new TextEncoder().encode(content),
});
const at = (machine: Machine, bdf: string): PciFunction =>
  machine.functions.find((fn) => fn.bdf === parseBdf(bdf)) as PciFunction;

async function tarOf(files: Readonly<Record<string, string | Buffer>>): Promise<Uint8Array> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("several files of one machine", () => {
  test("a tree completes a list, in either order", async () => {
    for (const files of [
      [text("nn.txt", NN), text("t.txt", TREE)],
      [text("t.txt", TREE), text("nn.txt", NN)],
    ]) {
      const machine = await importInputs(files);
      expect(at(machine, "00:01.0").bridge).toMatchObject({ secondary: 1 });
      expect(at(machine, "01:00.0")).toMatchObject({ classCode: 0x010802, deviceId: 0xa824 });
      expect(isUnknown(at(machine, "00:01.0"), "bridge")).toBe(false);
      // The port type is inferred still, and that is not forgotten.
      expect(isUnknown(at(machine, "00:01.0"), "pcie.portType")).toBe(true);
      expect(machine.warnings).toEqual([]);
      expect(machine.sources).toHaveLength(2);
    }
  });

  test("both in one file are two sources", async () => {
    const machine = await importInputs([text("both.txt", `${TREE}\n${NN}`)]);
    expect(at(machine, "01:00.0").classCode).toBe(0x010802);
    expect(at(machine, "00:01.0").bridge).not.toBeNull();
  });

  test("contradictions are warnings, and the more precise source is taken", async () => {
    const udev = [
      ["/devices/pci0000:00/0000:00:00.0", "60000", "8086:29C0", ""],
      ["/devices/pci0000:00/0000:00:01.0", "60400", "8086:3420", "E: DRIVER=pcieport\n"],
      [
        "/devices/pci0000:00/0000:00:01.0/0000:01:00.0",
        "20000",
        "144D:A824",
        "E: DRIVER=vfio-pci\n",
      ],
    ]
      .map(
        ([path, code, id, more]) =>
          `P: ${path}\nE: DEVPATH=${path}\nE: SUBSYSTEM=pci\n` +
          `E: PCI_CLASS=${code}\nE: PCI_ID=${id}\n${more}\n`,
      )
      .join("");
    const machine = await importInputs([text("nn.txt", NN), text("udev.txt", udev)]);
    expect(machine.warnings.join()).toMatch(/0000:01:00.0 is 144d:a824 class/);
    expect(machine.functions).toHaveLength(3);
  });

  test("a file of another machine is refused", async () => {
    const other = NN.replaceAll(/\[(8086|144d):\w+\]/g, "[1022:1480]");
    await expect(importInputs([text("a.txt", NN), text("b.txt", other)])).rejects.toMatchObject({
      code: "sources-disagree",
    });
  });

  test("ports that NCCL's importer infers give way to real ones", async () => {
    const nccl =
      '<system version="1"><cpu numaid="1" arch="x86_64" vendor="GenuineIntel" familyid="6">' +
      '<pci busid="0000:01:00.0" class="0x010802" vendor="0x144d" device="0xa824" ' +
      'link_speed="16.0 GT/s PCIe" link_width="4"/></cpu></system>';
    const machine = await importInputs([text("t.txt", TREE), text("nccl.xml", nccl)]);
    expect(machine.functions.map((fn) => formatBdf(fn.bdf))).toEqual([
      "0000:00:00.0",
      "0000:00:01.0",
      "0000:01:00.0",
    ]);
    expect(at(machine, "01:00.0")).toMatchObject({ numaNode: 1 });
    expect(machine.host.cpuVendor).toBe("GenuineIntel");
    expect(machine.hostBridges).toHaveLength(1);
  });
});

describe("packed", () => {
  test("gzip in gzip in tar is the same machine", async () => {
    const plain = await importInputs([text("lspci.txt", LSPCI)]);
    const tar = await tarOf({ "case-123/lspci.txt": LSPCI, "case-123/notes.txt": "hello" });
    const packed = await importInputs([{ name: "case.tar.gz", bytes: gzipSync(gzipSync(tar)) }]);
    expect(packed.functions).toEqual(plain.functions);
    expect(packed.sources[0]?.file).toBe("case.tar.gz: lspci.txt");
  });

  test("a damaged xz, and zstd where Node cannot, are refused with what to do", async () => {
    const xz = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3);
    await expect(importInputs([{ name: "a.tar.xz", bytes: xz }])).rejects.toMatchObject({
      code: "archive-damaged",
      place: "a.tar.xz",
    });
    const zstd = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3);
    const refused = await importInputs([{ name: "a.tar.zst", bytes: zstd }]).catch((e) => e);
    expect(["packing-unsupported", "archive-damaged"]).toContain(refused.code);
    expect(refused.remedy).toMatch(/zstd -dk a\.tar\.zst|Copy it again/);
  });

  test("a damaged dump inside an archive is an error, a foreign file is not", async () => {
    const cut = LSPCI.slice(0, LSPCI.lastIndexOf("\n", LSPCI.length - 200) + 20);
    const bytes = await tarOf({ "x/lspci.txt": cut });
    await expect(importInputs([{ name: "x.tar", bytes }])).rejects.toMatchObject({
      code: expect.stringMatching(/dump-/),
      place: expect.stringMatching(/^x.tar: lspci.txt:\d+$/),
    });
  });

  test("UTF-16, as PowerShell writes it", async () => {
    const bytes = Buffer.concat([Buffer.of(0xff, 0xfe), Buffer.from(NN, "utf16le")]);
    expect((await importInputs([{ name: "nn.txt", bytes }])).functions).toHaveLength(3);
  });

  test("a binary is told from text", async () => {
    const bytes = Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 0, 0, 0, 1);
    await expect(importInputs([{ name: "a.out", bytes }])).rejects.toMatchObject({
      code: "not-text",
    });
  });
});

describe("nvidia-bug-report.log", () => {
  const LINE = "_".repeat(44);
  const REPORT = `${LINE}

Start of NVIDIA bug report log file.  Please include this file.

${LINE}

/usr/bin/lspci -nntv

${TREE}
${LINE}

/usr/bin/lspci -nn

${NN}
${LINE}

/usr/bin/numactl -H

available: 1 nodes
*** /sys/bus/pci/devices/0000:01:00.0/numa_node
*** ls: -rw-r--r-- 1 root root 4096 2024-01-01 /sys/bus/pci/devices/0000:01:00.0/numa_node
1

${LINE}

dmesg:

[    0.1] pci_bus 0000:00: root bus resource [mem 0x80000000-0xdfffffff window]
${LINE}

*** /proc/cmdline
*** ls: -r--r--r-- 1 root root 0 2024-01-01 /proc/cmdline
BOOT_IMAGE=/vmlinuz root=UUID=7b1e1c5a-1111-2222-3333-aaaaaaaaaaaa iommu=pt

${LINE}

*** /proc/cpuinfo
vendor_id\t: AuthenticAMD
cpu family\t: 25

${LINE}

*** /proc/version
Linux version 6.5.0-14-generic (build@x) #14
`;

  test.each(["plain", "gzip"])("%s: its lspci sections and its facts of the host", async (how) => {
    const bytes = how === "gzip" ? gzipSync(REPORT) : new TextEncoder().encode(REPORT);
    const machine = await importInputs([{ name: "nvidia-bug-report.log", bytes }]);
    expect(machine.functions).toHaveLength(3);
    expect(at(machine, "01:00.0")).toMatchObject({ numaNode: 1, classCode: 0x010802 });
    expect(machine.host).toMatchObject({
      cpuVendor: "AuthenticAMD",
      cpuFamily: 25,
      kernelVersion: "6.5.0-14-generic",
      kernelCommandLine: "BOOT_IMAGE=/vmlinuz root=UUID=REDACTED iommu=pt",
      iommu: "passthrough",
    });
    expect(machine.hostBridges[0]?.apertures[0]).toMatchObject({ phys: 0x80000000 });
  });

  test("its own dump where lspci is missing", async () => {
    const rows = Array.from({ length: 4 }, (_, i) => {
      const bytes = i === 0 ? "86 80 c0 29 06 00 00 00 02 00 00 06 00 00 00 00" : "00 ".repeat(16);
      return `${(i * 16).toString(16).padStart(2, "0")}: ${bytes.trim()} `;
    });
    const dump =
      "PCI devices configuration space dump using sysfs\n\n\n" +
      `0000:00:00.0 060000: Vendor 8086 Device 29c0 (rev 02)\n${rows.join("\n")}\n`;
    const head = `${LINE}\n\nStart of NVIDIA bug report log file.\n`;
    const report = `${head}\n${LINE}\n\n${dump}\n${LINE}\n`;
    const machine = await importInputs([text("report.log", report)]);
    expect(machine.functions).toMatchObject([{ vendorId: 0x8086, deviceId: 0x29c0 }]);
  });
});

describe("folders and archives of a system", () => {
  test("/sys, the folder above it, and a tar of it", async () => {
    const files = fakeSysfs();
    for (const path of ["/sys", "/"]) {
      const machine = await readMachine(files, [path]);
      expect(machine.functions, path).toHaveLength(5);
      expect(machine.host.iommu).toBe("strict");
      expect(machine.host.cpuVendor).toBe(path === "/" ? "GenuineIntel" : null);
    }
  });

  test("a tar of /sys made by a user: padded with zeros, not taken for absence", async () => {
    const folder = "sys/devices/pci0000:00/0000:00:01.0";
    const header = Buffer.alloc(4096);
    Buffer.from("86803020060010000100040600000100", "hex").copy(header);
    header[0x34] = 0x40;
    const bytes = await tarOf({
      [`${folder}/vendor`]: `0x8086\n${"\0".repeat(4089)}`,
      [`${folder}/config`]: header,
    });
    const machine = await importInputs([{ name: "sys.tar", bytes }]);
    const port = at(machine, "00:01.0");
    expect(port.config).toHaveLength(64);
    expect(port.vendorId).toBe(0x8086);
    expect(isUnknown(port, "acs")).toBe(true);
  });

  test("a sosreport: lspci, proc, boot log", async () => {
    const bytes = await tarOf({
      "sosreport-x/sos_commands/pci/lspci_-nnvv": NN,
      "sosreport-x/sos_commands/pci/lspci_-tv": TREE,
      "sosreport-x/proc/cpuinfo": "vendor_id\t: GenuineIntel\ncpu family\t: 6\n",
      "sosreport-x/proc/cmdline": "intel_iommu=on\n",
      "sosreport-x/sos_commands/kernel/dmesg": "[0.0] Linux version 5.14.0-1.el9 (b) #1\n",
      "sosreport-x/sys/module/nvme/parameters/x": "1\n",
    });
    const machine = await importInputs([{ name: "sosreport.tar.gz", bytes: gzipSync(bytes) }]);
    expect(machine.functions).toHaveLength(3);
    expect(at(machine, "00:01.0").bridge).not.toBeNull();
    expect(machine.host).toMatchObject({
      cpuVendor: "GenuineIntel",
      iommu: "strict",
      kernelVersion: "5.14.0-1.el9",
    });
  });

  test("what describes no PCI device is refused", async () => {
    const bytes = await tarOf({ "x/readme.md": "hello" });
    await expect(importInputs([{ name: "x.tar", bytes }])).rejects.toMatchObject({
      code: "no-pci-tree",
      place: "x.tar",
    });
  });
});

describe("machine.json", () => {
  test("alone it is the machine itself; with other files it is completed", async () => {
    const machine = await importInputs([text("nn.txt", NN)]);
    const json = text("machine.json", serializeMachine(machine));
    expect(await importInputs([json])).toEqual(machine);
    const more = await importInputs([json, text("t.txt", TREE)]);
    expect(more.name).toBe(machine.name);
    expect(at(more, "00:01.0").bridge).toMatchObject({ secondary: 1 });
  });

  test("read from a file, with what the user tells", async () => {
    const machine = await importInputs([text("nn.txt", NN)]);
    const files = new MemoryFiles().addFile("/m.json", serializeMachine(machine));
    const cpu = { vendor: "AuthenticAMD", family: 25 };
    expect((await readMachine(files, ["/m.json"], { cpu })).host.cpuFamily).toBe(25);
  });
});
