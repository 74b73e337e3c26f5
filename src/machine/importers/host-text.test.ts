import { describe, expect, it } from "vitest";
import { readText, shippedPath } from "../../../testing/recorded.ts";
import { importMachine } from "../index.ts";
import { parseHostText } from "./host-text.ts";

const machine = readText(shippedPath("08-pxb-two-host-bridges/machine.txt"));
const dump = readText(shippedPath("08-pxb-two-host-bridges/lspci.txt"));

describe("text of a host", () => {
  it("tells CPU, kernel, command line, RAM and address ranges of root buses", () => {
    const { host, rootBuses } = parseHostText(machine, "machine.txt");
    expect(host).toMatchObject({
      cpuVendor: "AuthenticAMD",
      cpuFamily: 15,
      architecture: "x86_64",
      kernelVersion: "7.3.4+deb13-amd64",
      kernelCommandLine: "console=ttyS0 panic=-1 loglevel=4 nokaslr",
    });
    expect(host.ram?.[0]).toEqual({ base: 0x1000, limit: 0x9fbff });
    expect(rootBuses.filter(({ rootBus }) => rootBus === 0x40).length).toBe(4);
  });

  it("completes a machine, and what the caller says wins", () => {
    const files = [
      { name: "machine.txt", text: machine },
      { name: "lspci.txt", text: dump },
    ];
    const plain = importMachine(files);
    expect(plain.host.cpuFamily).toBe(15);
    expect(plain.hostBridges.map(({ bus }) => bus)).toEqual([0, 0x40]);
    expect(plain.hostBridges[1]?.apertures[0]).toEqual({
      phys: 0xfc000000,
      bus: 0xfc000000,
      sizeBytes: 2 ** 24,
    });
    const told = importMachine(files, { cpu: { vendor: "GenuineIntel", family: 6 }, name: "x" });
    expect(told).toMatchObject({ name: "x", host: { cpuVendor: "GenuineIntel", cpuFamily: 6 } });
  });

  it("alone is no machine", () => {
    expect(() => importMachine([{ name: "machine.txt", text: machine }])).toThrow(
      /no PCI function/,
    );
  });

  it("reads the IOMMU mode that the command line forces", () => {
    const text = machine.replace("nokaslr", "amd_iommu=on iommu=pt");
    const files = [
      { name: "machine.txt", text },
      { name: "lspci.txt", text: dump },
    ];
    expect(importMachine(files).host.iommu).toBe("passthrough");
  });
});
