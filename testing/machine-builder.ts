/**
 * Builds machine snapshots for tests: root buses, root ports, switches, bridges, endpoints. Bus
 * numbers and addresses are given out depth first when it is built, as firmware does, so the result
 * is a machine that could exist.
 *
 * Addresses: every host bridge has one aperture for memory; BARs are 64-bit and prefetchable and
 * lie in the prefetchable windows of the bridges above. `busOffset` is bus address minus physical.
 */

import { alignUp, type Bdf, makeBdf } from "../src/core/index.ts";
import {
  type AcsFacts,
  type Bar,
  blankFunction,
  type Host,
  type HostBridge,
  type Machine,
  type PciFunction,
  PortType,
  UNKNOWN_HOST,
} from "../src/machine/index.ts";

export interface NodeOptions {
  readonly vendor?: number;
  readonly device?: number;
  /** ACS Control; left out: no ACS capability. */
  readonly acs?: number;
  /** Memory BARs 0, 2, 4 in bytes, powers of two of at least 4096. */
  readonly bars?: readonly number[];
  readonly generation?: number;
  readonly width?: number;
  /** Device and function on its bus; left out: the next free device, function 0. */
  readonly slot?: number;
  readonly fn?: number;
  /** Makes it a virtual function of this node, which must be on the same bus. */
  readonly physical?: Node;
  readonly unknown?: readonly string[];
  readonly classCode?: number;
  readonly iommuGroup?: number;
}

/** A function in the making. Its name is known once the machine is built. */
export class Node {
  bdf: Bdf = 0 as Bdf;
  readonly children: Node[] = [];
  readonly portType: PortType | null;
  readonly isBridge: boolean;
  readonly options: NodeOptions;
  secondary = 0;
  subordinate = 0;
  windowBase = 0;
  windowLimit = -1;
  barAddresses: number[] = [];

  constructor(portType: PortType | null, isBridge: boolean, options: NodeOptions) {
    this.portType = portType;
    this.isBridge = isBridge;
    this.options = options;
  }
}

export interface RootOptions {
  readonly domain?: number;
  readonly bus?: number;
  /** First physical address of its memory aperture. */
  readonly phys?: number;
  /** Bus address minus physical address, a multiple of 4096. */
  readonly busOffset?: number;
  readonly apertureBytes?: number;
}

class Root {
  readonly children: Node[] = [];
  readonly options: RootOptions;
  constructor(options: RootOptions) {
    this.options = options;
  }
}

const WINDOW_ALIGNMENT = 0x10_0000;

export class MachineBuilder {
  private readonly name: string;
  private readonly host: Partial<Host>;
  private readonly roots: Root[] = [];
  private readonly functions: PciFunction[] = [];

  constructor(name = "built", host: Partial<Host> = {}) {
    this.name = name;
    this.host = host;
  }

  /** A host bridge with its root bus. */
  root(options: RootOptions = {}): Root {
    const root = new Root(options);
    this.roots.push(root);
    return root;
  }

  rootPort(root: Root, options: NodeOptions = {}): Node {
    return this.add(root, PortType.rootPort, true, { device: 0x000c, ...options });
  }

  /** A switch below a port: its upstream port and `ports` downstream ports. */
  switch(
    above: Node,
    ports: number,
    downstream: NodeOptions = {},
    upstream: NodeOptions = {},
  ): { upstream: Node; ports: Node[] } {
    const up = this.add(above, PortType.switchUpstream, true, { device: 0x8232, ...upstream });
    const down = Array.from({ length: ports }, () =>
      this.add(up, PortType.switchDownstream, true, { device: 0x8233, ...downstream }),
    );
    return { upstream: up, ports: down };
  }

  /** A conventional bridge (PCIe-to-PCI where it is below a port). */
  bridge(above: Root | Node, options: NodeOptions = {}): Node {
    const portType = above instanceof Root ? null : PortType.pcieToPciBridge;
    return this.add(above, portType, true, options);
  }

  /** An endpoint below a port, or one that is integrated into the root complex. */
  endpoint(above: Root | Node, options: NodeOptions = {}): Node {
    const portType = above instanceof Root ? PortType.rootComplexEndpoint : PortType.endpoint;
    return this.add(above, portType, false, options);
  }

  private add(
    above: Root | Node,
    portType: PortType | null,
    isBridge: boolean,
    options: NodeOptions,
  ): Node {
    const node = new Node(portType, isBridge, options);
    above.children.push(node);
    return node;
  }

  build(): Machine {
    const hostBridges: HostBridge[] = [];
    let nextBus = 0;
    let nextPhys = 0x40_0000_0000;
    for (const root of this.roots) {
      const { domain = 0, busOffset = 0, apertureBytes = 0x10_0000_0000 } = root.options;
      const bus = root.options.bus ?? nextBus;
      const phys = root.options.phys ?? nextPhys;
      const busEnd = numberBuses(root.children, domain, bus);
      placeMemory(root.children, phys + busOffset);
      hostBridges.push({
        domain,
        bus,
        busEnd,
        apertures: [{ phys, bus: phys + busOffset, sizeBytes: apertureBytes }],
        numaNode: null,
      });
      for (const node of root.children) this.collect(node);
      nextBus = busEnd + 1;
      nextPhys = phys + apertureBytes;
    }
    return {
      name: this.name,
      sources: [{ file: "testing/machine-builder.ts", format: "built" }],
      host: { ...UNKNOWN_HOST, ...this.host },
      hostBridges,
      functions: [...this.functions].sort((a, b) => a.bdf - b.bdf),
      warnings: [],
    };
  }

  private collect(node: Node): void {
    this.functions.push(toFunction(node));
    for (const child of node.children) this.collect(child);
  }
}

/** Names everything below one bus, depth first; returns the last bus number used. */
function numberBuses(nodes: readonly Node[], domain: number, bus: number): number {
  let slot = 0;
  let last = bus;
  for (const node of nodes) {
    const own = node.options.slot ?? slot;
    slot = Math.max(slot, own) + 1;
    node.bdf = makeBdf(domain, bus, own, node.options.fn ?? 0);
    if (!node.isBridge) continue;
    node.secondary = last + 1;
    last = numberBuses(node.children, domain, node.secondary);
    node.subordinate = last;
  }
  return last;
}

/** Gives BARs and windows addresses from `from` on; returns the first free one. */
function placeMemory(nodes: readonly Node[], from: number): number {
  let at = from;
  for (const node of nodes) {
    node.barAddresses = (node.options.bars ?? []).map((bytes) => {
      const address = alignUp(at, bytes);
      at = address + bytes;
      return address;
    });
    if (!node.isBridge) continue;
    const base = alignUp(at, WINDOW_ALIGNMENT);
    const end = alignUp(placeMemory(node.children, base), WINDOW_ALIGNMENT);
    if (end === base) continue;
    node.windowBase = base;
    node.windowLimit = end - 1;
    at = end;
  }
  return at;
}

function toFunction(node: Node): PciFunction {
  const { options, portType, isBridge } = node;
  const { vendor = 0x1b36, device = 0x0010, generation = 4, width = 4, unknown = [] } = options;
  const bars = (options.bars ?? []).map(
    (sizeBytes, i): Bar => ({
      index: 2 * i,
      kind: "memory64",
      prefetchable: true,
      address: node.barAddresses[i] as number,
      sizeBytes,
      enabled: true,
    }),
  );
  const acs: AcsFacts | null =
    options.acs === undefined
      ? null
      : { offset: 0x150, capabilities: 0x7f, control: options.acs, egressVector: [] };
  const closed = node.windowLimit < node.windowBase;
  const prefetchable = closed ? null : { base: node.windowBase, limit: node.windowLimit };
  const { secondary, subordinate } = node;
  return {
    ...blankFunction(node.bdf),
    vendorId: vendor,
    deviceId: device,
    classCode: options.classCode ?? (isBridge ? 0x060400 : 0x010802),
    headerType: isBridge ? 1 : 0,
    command: 0x0006,
    bars,
    bridge: isBridge
      ? {
          primary: Math.floor(node.bdf / 256) % 256,
          secondary,
          subordinate,
          io: null,
          memory: null,
          prefetchable,
          bridgeControl: 0,
        }
      : null,
    pcie:
      portType === null
        ? null
        : {
            portType,
            offset: 0x70,
            link: { generation, width },
            linkCapability: { generation, width },
            maxPayloadSupported: 256,
            maxPayload: 256,
            maxReadRequest: 512,
            readCompletionBoundary: 64,
            relaxedOrdering: true,
            extendedTags: true,
            functionLevelReset: true,
            ariForwarding: false,
            slot: null,
          },
    acs,
    physicalFunction: options.physical?.bdf ?? null,
    iommuGroup: options.iommuGroup ?? null,
    unknown: unknown.map((field) => ({ field, consequence: `${field} is not in the dump` })),
  };
}
