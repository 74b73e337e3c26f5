/**
 * Random machines that could exist, from a seed: root ports, nested switches, multi-function
 * devices, virtual functions, conventional bridges, root complex endpoints, several domains, ACS
 * here and there.
 */

import type { Prng } from "../src/core/index.ts";
import { type Machine, PortType } from "../src/machine/index.ts";
import { MachineBuilder, type Node, type NodeOptions } from "./machine-builder.ts";

const ACS_WORDS = [0, 0x1d, 0x04, 0x08, 0x20, 0x53, 0x5f];
const ROOT_DEVICES: readonly (readonly [number, number])[] = [
  [0x8086, 0x29c0],
  [0x8086, 0x2030],
  [0x8086, 0x09a2],
  [0x8086, 0x3c00],
  [0x8086, 0x2f01],
  [0x1ae0, 0x1234],
  [0x1022, 0x1480],
];

export interface RandomOptions {
  /** Roughly how many functions to make. */
  readonly functions: number;
  readonly rootsMax?: number;
}

export function randomMachine(prng: Prng, options: RandomOptions): Machine {
  const cpu = prng.pick([
    { cpuVendor: "AuthenticAMD", cpuFamily: 0x17 },
    { cpuVendor: "AuthenticAMD", cpuFamily: 0x15 },
    { cpuVendor: "GenuineIntel", cpuFamily: 6 },
    { cpuVendor: null, cpuFamily: null },
  ]);
  const builder = new MachineBuilder("random", { ...cpu, kernelVersion: "7.3.4" });
  let left = options.functions;
  const acs = (): NodeOptions => (prng.chance(0.3) ? { acs: prng.pick(ACS_WORDS) } : {});

  const grow = (above: Node, depth: number): void => {
    left--;
    if (depth < 3 && left > 4 && prng.chance(0.55)) {
      const ports = 1 + prng.below(Math.min(4, left));
      const made = builder.switch(above, ports, acs(), acs());
      left -= ports;
      for (const port of made.ports) if (prng.chance(0.8)) grow(port, depth + 1);
      return;
    }
    if (left > 3 && prng.chance(0.1)) {
      const bridge = builder.bridge(above, acs());
      for (let i = 0; i < 2; i++, left--) builder.endpoint(bridge, { bars: [4096] });
      return;
    }
    const first = builder.endpoint(above, { ...acs(), bars: [0x10000] });
    const more = prng.chance(0.3) ? 1 + prng.below(3) : 0;
    for (let fn = 1; fn <= more; fn++, left--) {
      const virtual = prng.chance(0.5) ? { physical: first } : {};
      builder.endpoint(above, { ...acs(), ...virtual, slot: 0, fn, bars: [4096] });
    }
  };

  const roots = 1 + prng.below(options.rootsMax ?? 3);
  for (let i = 0; i < roots; i++) {
    const domain = prng.chance(0.3) ? i : 0;
    const busOffset = prng.chance(0.3) ? -0x1000_0000 : 0;
    const root = builder.root({ domain, busOffset, bus: i * Math.floor(250 / roots) });
    if (prng.chance(0.7)) {
      const [vendor, device] = prng.pick(ROOT_DEVICES);
      builder.endpoint(root, { vendor, device, bars: [4096] });
    }
    const share = left - (options.functions * (roots - 1 - i)) / roots;
    const end = left - share;
    const busesMax = Math.floor(200 / roots);
    for (let port = 0; port < 28 && left > end && countBuses(root.children) < busesMax; port++) {
      grow(builder.rootPort(root, { ...acs(), vendor: 0x8086, device: 0x2030 + prng.below(5) }), 0);
    }
    if (prng.chance(0.4)) builder.endpoint(root, { bars: [4096], ...acs() });
  }
  return builder.build();
}

function countBuses(nodes: readonly Node[]): number {
  let buses = 0;
  const stack = [...nodes];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node.isBridge || node.portType === PortType.rootPort) buses++;
    stack.push(...node.children);
  }
  return buses;
}

/** A machine of exactly `functions` functions on many buses, for benchmarks of all pairs. */
export function largeMachine(functions: number, prng: Prng): Machine {
  const builder = new MachineBuilder(`large-${functions}`, {
    cpuVendor: "GenuineIntel",
    cpuFamily: 6,
    kernelVersion: "7.3.4",
  });
  // Per root port: the port, a switch of 4 ports, 8 functions below each: 38 functions, 6 buses.
  const perDomain = 38 * 20;
  for (let left = functions, domain = 0; left > 0; domain++) {
    const root = builder.root({ domain, bus: 0 });
    let inDomain = Math.min(left, perDomain);
    left -= inDomain;
    while (inDomain > 0) {
      const acs = prng.chance(0.5) ? { acs: prng.pick(ACS_WORDS) } : {};
      const port = builder.rootPort(root, { vendor: 0x8086, device: 0x2030, ...acs });
      if (--inDomain < 6) continue;
      const { ports } = builder.switch(port, 4, acs);
      inDomain -= 5;
      for (const down of ports) {
        const many = Math.min(8, inDomain);
        inDomain -= many;
        for (let fn = 0; fn < many; fn++) builder.endpoint(down, { slot: 0, fn, bars: [4096] });
      }
    }
  }
  return builder.build();
}
