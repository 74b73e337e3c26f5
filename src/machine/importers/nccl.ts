/**
 * NCCL and RCCL topology XML (`NCCL_TOPO_DUMP_FILE=topo.xml`): GPUs, NICs and the switches above
 * them with names, ids, highest link speed, NUMA node and CPU.
 *
 * NCCL walks up two levels of sysfs at a time, so root ports and the downstream ports of switches
 * are not in the file although PCI Express requires them; nccl-ports.ts puts them back.
 * Files of cloud providers describe virtual switches whose names exist on no machine.
 *
 * Leaves out: NVLink, XGMI and network speeds. The file never tells ACS, BARs, IOMMU or the devices
 * that NCCL does not use.
 */

import { PeerlaneError, tryParseBdf } from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import type { HostFacts } from "../host-facts.ts";
import { type ForestNode, partFromForest } from "./forest.ts";
import { isKernelName } from "./kernel-names.ts";
import { parseLink } from "./link-text.ts";
import { type NcclTop, withPorts } from "./nccl-ports.ts";
import { parseXml, type XmlElement } from "./xml.ts";

const FORMAT = "nccl-xml";
const BECAUSE = "an NCCL topology does not tell it";

export function parseNccl(text: string, file: string): MachinePart {
  const system = parseXml(text, file);
  if (system.name !== "system") {
    throw new PeerlaneError("not-nccl", `${file} is XML, but not an NCCL topology`, {
      place: file,
    });
  }
  const warnings: string[] = [];
  const tops: NcclTop[] = [];
  let facts: HostFacts = {};
  let outside = 0;
  for (const cpu of system.children.filter((child) => child.name === "cpu")) {
    const numa = Number(cpu.attributes.get("numaid") ?? "-1");
    const numaNode = Number.isInteger(numa) && numa >= 0 ? numa : null;
    facts = { ...cpuFacts(cpu), ...facts };
    for (const child of cpu.children) {
      if (child.name === "nic") outside += child.children.length;
      if (child.name !== "pci") continue;
      const node = deviceOf(child, numaNode, warnings);
      if (node !== null) tops.push({ node, numaNode });
    }
  }
  if (tops.length === 0) {
    throw new PeerlaneError("no-pci-tree", `${file} has no PCI devices in it`, {
      place: file,
      remedy: "Write it with NCCL_TOPO_DUMP_FILE on the machine itself.",
    });
  }
  if (outside > 0) warnings.push(`${outside} network interfaces of the file are not PCI devices`);
  const { roots, notes } = withPorts(tops);
  warnings.push(...notes);
  return partFromForest(roots, {
    source: { file, format: FORMAT },
    host: facts,
    warnings,
    because: BECAUSE,
    isComplete: false,
  });
}

/**
 * NCCL packs base and extended family as CPUID leaf 1 has them: 143 is base 15, extended 8, which
 * Linux prints as family 23. Other values are what they say.
 */
function cpuFacts({ attributes }: XmlElement): HostFacts {
  const vendor = attributes.get("vendor");
  const id = Number(attributes.get("familyid") ?? Number.NaN);
  const isPacked = Number.isInteger(id) && id >= 0x1f && (id & 0xf) === 0xf;
  const arch = attributes.get("arch");
  return {
    ...(vendor === undefined || vendor === "" ? {} : { cpuVendor: vendor }),
    ...(id >= 0 ? { cpuFamily: isPacked ? 15 + (id >> 4) : id } : {}),
    ...(arch === undefined ? {} : { architecture: ARCHITECTURES[arch] ?? arch }),
  };
}

/** NCCL's names of architectures, where they differ from Linux's. */
const ARCHITECTURES: Readonly<Record<string, string>> = { arm64: "aarch64", ppc64: "ppc64le" };

const LINK_NOTE = {
  field: "pcie.link",
  consequence: "NCCL tells the highest speed of a link: it is taken to be the trained one",
};

function deviceOf(
  element: XmlElement,
  numaNode: number | null,
  warnings: string[],
): ForestNode | null {
  const { attributes } = element;
  const bdf = tryParseBdf(attributes.get("busid") ?? "");
  if (bdf === null) {
    warnings.push(`a device without a place (busid "${attributes.get("busid")}") is left out`);
    return null;
  }
  const hex = (name: string): number | undefined => {
    const value = Number.parseInt(attributes.get(name) ?? "", 16);
    return value >= 0 && value < 0xffffff ? value : undefined;
  };
  const id = (name: string): number | undefined => {
    const value = hex(name);
    return value !== undefined && value < 0xffff ? value : undefined;
  };
  const link = parseLink(attributes.get("link_speed"), attributes.get("link_width"));
  const told = <K extends string, V>(name: K, value: V | undefined) =>
    value === undefined ? {} : ({ [name]: value } as Record<K, V>);
  const children = element.children.flatMap((child) => {
    const node = child.name === "pci" ? deviceOf(child, numaNode, warnings) : null;
    return node === null ? [] : [node];
  });
  const classCode = hex("class");
  return {
    bdf,
    ...told("classCode", classCode),
    ...told("vendorId", id("vendor")),
    ...told("deviceId", id("device")),
    ...told("subsystemVendorId", id("subsystem_vendor")),
    ...told("subsystemId", id("subsystem_device")),
    ...(link === null ? {} : { link, linkCapability: link, unknown: [LINK_NOTE] }),
    ...(numaNode === null ? {} : { numaNode }),
    isBridge: (classCode ?? 0) >>> 8 === 0x0604 || children.length > 0,
    // Vendor ffff is nobody: cloud providers use it for switches that guests do not see.
    ...(hex("vendor") === 0xffff ? { isInferred: true } : {}),
    kernelNames: namesOf(element, warnings),
    children,
  };
}

function namesOf({ children, attributes }: XmlElement, warnings: string[]): string[] {
  const names: string[] = [];
  for (const nic of children.filter((child) => child.name === "nic")) {
    for (const { name, attributes: net } of nic.children) {
      const kernelName = net.get("name");
      if (name !== "net" || kernelName === undefined) continue;
      if (isKernelName(kernelName)) names.push(kernelName);
      else
        warnings.push(
          `a network name below ${attributes.get("busid")} is left out: it may be private`,
        );
    }
  }
  return names;
}
