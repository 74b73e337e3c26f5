/**
 * One machine for tests of peer memory, where no two address spaces agree: bus addresses differ
 * from physical ones, and with an IOMMU each initiator has its own.
 *
 *     root (bus = phys - 0x1000_0000)
 *       root port 1 - switch - provider (16 MiB BAR), near: reaches it by bus address
 *       root port 2 - far: reaches it through the host bridge
 *       root port 3 - stranger: could, but nothing is opened for it
 *
 * Over a fake backing (addresses alone), or over the simulated fabric (routes, ACS, a real IOMMU).
 */

import type { BackingMachine } from "../src/backing/interface.ts";
import {
  type Bdf,
  DMA_STATUS_NAMES,
  DmaStatus,
  formatBdf,
  PeerlaneError,
} from "../src/core/index.ts";
import { DmaContext } from "../src/dma/index.ts";
import type { DevicePort } from "../src/fabric/index.ts";
import type { IommuMode, Machine } from "../src/machine/index.ts";
import { Provider, Rules, Topology } from "../src/p2p/index.ts";
import { FakeBacking } from "./fake-backing.ts";
import { MachineBuilder } from "./machine-builder.ts";
import type { DmaPlane } from "./memory-contract.ts";
import { portedFabric } from "./ported-fabric.ts";

export const PEER_BUS_OFFSET = -0x1000_0000;
export const PEER_BYTES = 16 * 1024 * 1024;
const PEER_BAR = 2;

export interface PeerOptions {
  /** The CPU is one that carries traffic between root ports. Default true. */
  readonly cpuForwards?: boolean;
  /**
   * ACS Control of root ports and downstream ports (without UF at a root port nothing turns there).
   */
  readonly acs?: number;
}

function peerMachine(options: PeerOptions) {
  const cpuFamily = (options.cpuForwards ?? true) ? 0x19 : 0x15;
  const host = { cpuVendor: "AuthenticAMD", cpuFamily, kernelVersion: "7.3.4" };
  const builder = new MachineBuilder("peers", host);
  const root = builder.root({ busOffset: PEER_BUS_OFFSET });
  builder.endpoint(root, { vendor: 0x8086, device: 0x29c0 });
  const port = options.acs === undefined ? {} : { acs: options.acs };
  const { ports } = builder.switch(builder.rootPort(root, port), 2, port);
  const owner = builder.endpoint(ports[0], { bars: [0x4000, PEER_BYTES] });
  const near = builder.endpoint(ports[1], { bars: [0x4000] });
  const far = builder.endpoint(builder.rootPort(root, port), { bars: [0x4000] });
  const stranger = builder.endpoint(builder.rootPort(root, port), { bars: [0x4000] });
  return { snapshot: builder.build(), owner, near, far, stranger };
}

/** The same machine as data. */
export function peerMachineSnapshot(): Machine {
  return peerMachine({}).snapshot;
}

function onBacking<T extends BackingMachine>(
  backing: T,
  iommu: IommuMode,
  { snapshot, owner, near, far, stranger }: ReturnType<typeof peerMachine>,
) {
  const context = new DmaContext(backing, { iommu, snapshot });
  return {
    snapshot,
    backing,
    context,
    rules: new Rules(new Topology(snapshot)),
    owner: owner.bdf,
    provider: Provider.fromBar(backing.open(owner.bdf), PEER_BAR),
    near: context.device(near.bdf),
    far: context.device(far.bdf),
    stranger: context.device(stranger.bdf),
    self: context.device(owner.bdf),
  };
}

/** Over the fake backing. */
export function peerSetup(iommu: IommuMode, options: PeerOptions = {}) {
  const machine = peerMachine(options);
  const backing = new FakeBacking(machine.snapshot, { iommu: iommu !== "off" });
  const setup = onBacking(backing, iommu, machine);
  const bar = backing.bars.find((b) => b.owner === setup.owner && b.index === PEER_BAR);
  if (bar === undefined) throw new Error(`${formatBdf(setup.owner)} has lost its BAR`);
  return {
    ...setup,
    plane: backing as DmaPlane,
    /** The provider's bytes as its owner sees them. */
    peek: (offset: number, length: number) => bar.bytes.slice(offset, offset + length),
  };
}

/** Over the simulated fabric: every function has memory behind its BARs and can issue DMA. */
export function fabricPeerSetup(iommu: IommuMode, options: PeerOptions = {}) {
  const machine = peerMachine(options);
  const ported = portedFabric(machine.snapshot, { iommu });
  const backing = ported.fabric;
  const setup = onBacking(backing, iommu, machine);
  return {
    ...setup,
    plane: portPlane((bdf) => ported.port(bdf)),
    peek: (offset: number, length: number) => {
      const target = new Uint8Array(length);
      backing.peek(setup.owner, PEER_BAR, offset, target);
      return target;
    },
  };
}

/** DMA through the ports of functions. */
export function portPlane(port: (bdf: Bdf) => DevicePort): DmaPlane {
  return {
    dmaWrite(bdf, address, source) {
      check(bdf, port(bdf).write(address, source, 0, source.length));
    },
    dmaRead(bdf, address, length) {
      const target = new Uint8Array(length);
      check(bdf, port(bdf).read(address, target, 0, length));
      return target;
    },
  };
}

function check(bdf: Bdf, status: number): void {
  if (status === DmaStatus.ok) return;
  throw new PeerlaneError("dma-failed", `${formatBdf(bdf)}: ${DMA_STATUS_NAMES[status]}`);
}
