/**
 * One machine for tests of peer memory, where no two address spaces agree: bus addresses differ from
 * physical ones, and with an IOMMU each initiator has its own.
 *
 *     root (bus = phys - 0x1000_0000)
 *       root port 1 - switch - provider (16 MiB BAR), near: reaches it by bus address
 *       root port 2 - far: reaches it through the host bridge
 *       root port 3 - stranger: could, but nothing is opened for it
 */

import { formatBdf } from "../src/core/index.ts";
import { DmaContext } from "../src/dma/index.ts";
import type { IommuMode } from "../src/machine/index.ts";
import { Provider, Rules, Topology } from "../src/p2p/index.ts";
import { FakeBacking } from "./fake-backing.ts";
import { MachineBuilder } from "./machine-builder.ts";

export const PEER_BUS_OFFSET = -0x1000_0000;
export const PEER_BYTES = 16 * 1024 * 1024;

/** `cpuForwards`: the CPU is one that carries traffic between root ports. */
export function peerSetup(iommu: IommuMode, options: { readonly cpuForwards?: boolean } = {}) {
  const cpuFamily = (options.cpuForwards ?? true) ? 0x19 : 0x15;
  const host = { cpuVendor: "AuthenticAMD", cpuFamily, kernelVersion: "7.3.4" };
  const builder = new MachineBuilder("peers", host);
  const root = builder.root({ busOffset: PEER_BUS_OFFSET });
  builder.endpoint(root, { vendor: 0x8086, device: 0x29c0 });
  const { ports } = builder.switch(builder.rootPort(root), 2);
  const owner = builder.endpoint(ports[0], { bars: [0x4000, PEER_BYTES] });
  const nodes = {
    near: builder.endpoint(ports[1], { bars: [0x4000] }),
    far: builder.endpoint(builder.rootPort(root), { bars: [0x4000] }),
    stranger: builder.endpoint(builder.rootPort(root), { bars: [0x4000] }),
  };
  const snapshot = builder.build();
  const backing = new FakeBacking(snapshot, { iommu: iommu !== "off" });
  const context = new DmaContext(backing, { iommu, snapshot });
  const bar = backing.bars.find((b) => b.owner === owner.bdf && b.index === 2);
  if (bar === undefined) throw new Error(`${formatBdf(owner.bdf)} has lost its BAR`);
  return {
    snapshot,
    backing,
    context,
    rules: new Rules(new Topology(snapshot)),
    owner: owner.bdf,
    provider: Provider.fromBar(backing.open(owner.bdf), 2),
    /** The provider's bytes as its owner sees them. */
    peerBytes: bar.bytes,
    near: context.device(nodes.near.bdf),
    far: context.device(nodes.far.bdf),
    stranger: context.device(nodes.stranger.bdf),
    self: context.device(owner.bdf),
  };
}
