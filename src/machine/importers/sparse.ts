/**
 * Functions from sources without configuration space: every field the source does not tell becomes
 * an entry in `unknown` with what follows from it, so that no reader takes silence for absence.
 *
 * Where {@link PciFunction} has no null for "not told" (ids, class), the values are those that
 * hardware answers when nobody is there, and `unknown` names the field.
 */

import { type Bdf, bdfBus } from "../../core/index.ts";
import { blankFunction, unknownField } from "../blank.ts";
import { classNameOf } from "../classes.ts";
import type {
  BridgeFacts,
  LinkFacts,
  PcieFacts,
  PciFunction,
  PortType,
  Unknown,
} from "../snapshot.ts";

const CLASS_PCI_BRIDGE = 0x0604;
/** Non-volatile memory controller; with programming interface 02 it is NVM Express. */
const CLASS_NVM = 0x0108;

/**
 * Class code from base class and sub-class, where the source does not tell the programming
 * interface. Every non-volatile memory controller in use speaks NVM Express.
 */
export const classOf = (class16: number): number =>
  class16 * 256 + (class16 === CLASS_NVM ? 0x02 : 0);

/** Where an inferred PCI Express capability is put, right after the header. */
const INFERRED_PCIE_OFFSET = 0x40;

type Copied = Exclude<keyof PciFunction, "bdf" | "bridge" | "pcie" | "config" | "unknown">;

/** What a source tells. Absent: not told. Null: told that there is none. */
export interface SparseFunction extends Partial<Pick<PciFunction, Copied>> {
  readonly bdf: Bdf;
  readonly isBridge?: boolean;
  readonly buses?: { readonly secondary: number; readonly subordinate: number } | null;
  readonly portType?: PortType;
  readonly link?: LinkFacts | null;
  readonly linkCapability?: LinkFacts | null;
  /** A port that the source leaves out and that must be there: its name is made up. */
  readonly isInferred?: boolean;
  /** What the source leaves open beyond whole fields. */
  readonly unknown?: readonly Unknown[];
}

/** Fields that are unknown unless the source tells them. */
const FIELDS = [
  ...["vendorId", "deviceId", "subsystemVendorId", "subsystemId", "classCode", "revision"],
  ...["command", "bars", "acs", "sriov", "resizableBars", "msix", "ats", "aerOffset"],
  ...["capabilities", "numaNode", "iommuGroup", "driver", "p2pmem"],
] as const satisfies readonly (keyof PciFunction)[];

const WINDOWS = "windows unknown: taken as wide enough for what is below";
/** What follows from not knowing parts of a bridge or port that is there. */
const PARTS: Readonly<Record<string, string>> = {
  bdf: "this port is inferred, its name is made up",
  "bridge.io": WINDOWS,
  "bridge.memory": WINDOWS,
  "bridge.prefetchable": WINDOWS,
  "bridge.bridgeControl": "Bridge Control unknown: taken as 0",
  "pcie.portType": "port type inferred from the place in the tree",
  "pcie.link": "link speed and width unknown",
  "pcie.linkCapability": "highest link speed and width unknown",
  "pcie.offset": "place of the capability unknown: its registers cannot be named",
  "pcie.maxPayload": "payload and request sizes unknown: taken as 128 bytes, the least",
};

/**
 * The whole function. `because` says why fields are missing: `lspci -t tells places only`.
 * A bridge without `buses` has `bridge: null` and says so.
 */
export function sparseFunction(sparse: SparseFunction, because: string): PciFunction {
  const unknown: Unknown[] = [...(sparse.unknown ?? [])];
  const { isBridge: told, buses, portType, link, linkCapability, isInferred, ...given } = sparse;
  const miss = (field: string): void => {
    const part = PARTS[field];
    unknown.push(
      part === undefined
        ? unknownField(field, because)
        : { field, consequence: `${because}: ${part}` },
    );
  };
  if (isInferred === true) miss("bdf");
  for (const field of FIELDS) if (given[field] === undefined) miss(field);
  const isBridge = told ?? buses != null;
  const classCode = given.classCode ?? (isBridge ? CLASS_PCI_BRIDGE * 256 : 0);
  return {
    ...blankFunction(sparse.bdf),
    headerType: isBridge ? 1 : 0,
    ...given,
    classCode,
    className: given.className ?? (classCode === 0 ? null : classNameOf(classCode)),
    bridge: isBridge ? bridgeFacts(sparse, miss) : null,
    pcie: pcieFacts(sparse, miss),
    unknown,
  };
}

type Miss = (field: string) => void;

function bridgeFacts({ bdf, buses }: SparseFunction, miss: Miss): BridgeFacts | null {
  if (buses == null) {
    miss("bridge");
    return null;
  }
  for (const field of ["io", "memory", "prefetchable", "bridgeControl"]) miss(`bridge.${field}`);
  return {
    primary: bdfBus(bdf),
    secondary: buses.secondary,
    subordinate: buses.subordinate,
    io: null,
    memory: null,
    prefetchable: null,
    bridgeControl: 0,
  };
}

/** The capability that the place or the link proves to exist; its registers stay unknown. */
function pcieFacts(sparse: SparseFunction, miss: Miss): PcieFacts | null {
  const { portType, link, linkCapability } = sparse;
  if (portType === undefined) {
    miss("pcie");
    return null;
  }
  miss("pcie.portType");
  if (link === undefined) miss("pcie.link");
  if (linkCapability === undefined) miss("pcie.linkCapability");
  miss("pcie.offset");
  miss("pcie.maxPayload");
  return {
    portType,
    offset: INFERRED_PCIE_OFFSET,
    link: link ?? null,
    linkCapability: linkCapability ?? null,
    maxPayloadSupported: 128,
    maxPayload: 128,
    maxReadRequest: 128,
    readCompletionBoundary: 64,
    relaxedOrdering: true,
    extendedTags: false,
    functionLevelReset: false,
    ariForwarding: false,
    slot: null,
  };
}
