/**
 * Three PCI domains as POWER machines have them: each host bridge has a bus address space of its
 * own, and two of them give out the same addresses. What an address made for one device reaches
 * when a device of another domain uses it: somebody else's memory, or nothing.
 *
 *     domain 0: switch - gpu (the owner), ssd       bus 8 GiB up = phys 64 TiB up
 *     domain 1: switch - gpu (a bystander), ssd     bus 8 GiB up = phys 64 TiB + 64 GiB up
 *     domain 2: switch - ssd                        bus 1 TiB up = phys 64 TiB + 128 GiB up
 *
 * scenarios/machines/three-host-bridges.json is this, for `peerlane compare`.
 */

import type { Machine } from "../src/machine/index.ts";
import { MachineBuilder } from "./machine-builder.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PHYS = 64 * 1024 * GIB;
const APERTURE_BYTES = 64 * GIB;
/** 144d:a80a and 10de:2330, as in the HGX dump. */
const SSD = { vendor: 0x144d, device: 0xa80a, classCode: 0x01_08_02, bars: [16 * 1024] };
const GPU = { vendor: 0x10de, device: 0x2330, classCode: 0x03_02_00, bars: [16 * MIB, 64 * MIB] };

export function threeBridges(): Machine {
  const builder = new MachineBuilder("three-host-bridges", { kernelVersion: "7.3.4" });
  const domain = (number: number, bus: number) => {
    const phys = PHYS + number * APERTURE_BYTES;
    const root = builder.root({
      domain: number,
      bus: 0,
      phys,
      busOffset: bus - phys,
      apertureBytes: APERTURE_BYTES,
    });
    return builder.switch(builder.rootPort(root), 2).ports;
  };
  const [first, second, third] = [domain(0, 8 * GIB), domain(1, 8 * GIB), domain(2, 1024 * GIB)];
  for (const [gpuPort, ssdPort] of [first, second]) {
    builder.endpoint(gpuPort, GPU);
    builder.endpoint(ssdPort, SSD);
  }
  builder.endpoint(third[1], SSD);
  return builder.build();
}
