/**
 * Identify (NVM Express Base 2.0, section 5.17) and its data structures: controller (figure
 * "Identify - Identify Controller Data Structure, I/O Command Set Independent"), namespace (NVM
 * Command Set 1.0, section 4.1.5.1), namespace identification descriptors (Base 2.0, section
 * 5.17.2.3). 16-byte capacities are numbers below 2^53.
 *
 * Left out: secondary controllers, NVM sets, endurance groups.
 */

import { bit, field } from "../../core/index.ts";
import { ascii, cString, defineStruct, raw, u8, u16, u24, u32, u64, u128 } from "./layout.ts";

export const IDENTIFY_BYTES = 4096;

/** Controller or Namespace Structure: CDW10 bits 7:0. */
export const Cns = {
  namespace: 0x00,
  controller: 0x01,
  activeNamespaces: 0x02,
  namespaceDescriptors: 0x03,
  nvmSetList: 0x04,
  namespaceForCsi: 0x05,
  controllerForCsi: 0x06,
  activeNamespacesForCsi: 0x07,
  namespaceIndependent: 0x08,
  allocatedNamespaces: 0x10,
  allocatedNamespace: 0x11,
  controllersOfNamespace: 0x12,
  controllers: 0x13,
  primaryController: 0x14,
  secondaryControllers: 0x15,
  namespaceGranularity: 0x16,
  uuidList: 0x17,
  allocatedNamespacesForCsi: 0x1a,
  allocatedNamespaceForCsi: 0x1b,
  ioCommandSets: 0x1c,
} as const;

export const IDENTIFY_CNS = field(0, 8);
export const IDENTIFY_CNTID = field(16, 16);
/** CDW11. */
export const IDENTIFY_CSI = field(24, 8);

/** Command Set Identifiers. */
export const Csi = { nvm: 0, keyValue: 1, zoned: 2 } as const;

export const IDENTIFY_CONTROLLER = defineStruct(
  "Identify Controller",
  "NVM Express Base 2.0, section 5.17.2.1",
  IDENTIFY_BYTES,
  {
    VID: u16(0, "PCI Vendor ID"),
    SSVID: u16(2, "PCI Subsystem Vendor ID"),
    SN: ascii(4, 20, "Serial Number"),
    MN: ascii(24, 40, "Model Number"),
    FR: ascii(64, 8, "Firmware Revision"),
    RAB: u8(72, "Recommended Arbitration Burst, power of two"),
    IEEE: u24(73, "IEEE OUI Identifier"),
    CMIC: u8(76, "Multi-Path I/O and Namespace Sharing Capabilities"),
    MDTS: u8(77, "Maximum Data Transfer Size: 2^n pages of CAP.MPSMIN; 0 no limit"),
    CNTLID: u16(78, "Controller ID"),
    VER: u32(80, "Version"),
    RTD3R: u32(84, "RTD3 Resume Latency, us"),
    RTD3E: u32(88, "RTD3 Entry Latency, us"),
    OAES: u32(92, "Optional Asynchronous Events Supported"),
    CTRATT: u32(96, "Controller Attributes"),
    RRLS: u16(100, "Read Recovery Levels Supported"),
    CNTRLTYPE: u8(111, "Controller Type"),
    FGUID: raw(112, 16, "FRU Globally Unique Identifier"),
    CRDT1: u16(128, "Command Retry Delay Time 1, 100 ms units"),
    CRDT2: u16(130, "Command Retry Delay Time 2"),
    CRDT3: u16(132, "Command Retry Delay Time 3"),
    NVMSR: u8(253, "NVM Subsystem Report"),
    VWCI: u8(254, "VPD Write Cycle Information"),
    MEC: u8(255, "Management Endpoint Capabilities"),
    OACS: u16(256, "Optional Admin Command Support"),
    ACL: u8(258, "Abort Command Limit, 0's based"),
    AERL: u8(259, "Asynchronous Event Request Limit, 0's based"),
    FRMW: u8(260, "Firmware Updates"),
    LPA: u8(261, "Log Page Attributes"),
    ELPE: u8(262, "Error Log Page Entries, 0's based"),
    NPSS: u8(263, "Number of Power States Support, 0's based"),
    AVSCC: u8(264, "Admin Vendor Specific Command Configuration"),
    APSTA: u8(265, "Autonomous Power State Transition Attributes"),
    WCTEMP: u16(266, "Warning Composite Temperature Threshold, K"),
    CCTEMP: u16(268, "Critical Composite Temperature Threshold, K"),
    MTFA: u16(270, "Maximum Time for Firmware Activation, 100 ms units"),
    HMPRE: u32(272, "Host Memory Buffer Preferred Size, 4 KiB units"),
    HMMIN: u32(276, "Host Memory Buffer Minimum Size, 4 KiB units"),
    TNVMCAP: u128(280, "Total NVM Capacity, bytes"),
    UNVMCAP: u128(296, "Unallocated NVM Capacity, bytes"),
    RPMBS: u32(312, "Replay Protected Memory Block Support"),
    EDSTT: u16(316, "Extended Device Self-test Time, minutes"),
    DSTO: u8(318, "Device Self-test Options"),
    FWUG: u8(319, "Firmware Update Granularity, 4 KiB units"),
    KAS: u16(320, "Keep Alive Support, 100 ms units"),
    HCTMA: u16(322, "Host Controlled Thermal Management Attributes"),
    MNTMT: u16(324, "Minimum Thermal Management Temperature, K"),
    MXTMT: u16(326, "Maximum Thermal Management Temperature, K"),
    SANICAP: u32(328, "Sanitize Capabilities"),
    HMMINDS: u32(332, "Host Memory Buffer Minimum Descriptor Entry Size"),
    HMMAXD: u16(336, "Host Memory Maximum Descriptors Entries"),
    NSETIDMAX: u16(338, "NVM Set Identifier Maximum"),
    ENDGIDMAX: u16(340, "Endurance Group Identifier Maximum"),
    ANATT: u8(342, "ANA Transition Time, s"),
    ANACAP: u8(343, "Asymmetric Namespace Access Capabilities"),
    ANAGRPMAX: u32(344, "ANA Group Identifier Maximum"),
    NANAGRPID: u32(348, "Number of ANA Group Identifiers"),
    PELS: u32(352, "Persistent Event Log Size, 64 KiB units"),
    DOMAINID: u16(356, "Domain Identifier"),
    MEGCAP: u128(368, "Max Endurance Group Capacity"),
    SQES: u8(512, "Submission Queue Entry Size: required 3:0, maximum 7:4"),
    CQES: u8(513, "Completion Queue Entry Size: required 3:0, maximum 7:4"),
    MAXCMD: u16(514, "Maximum Outstanding Commands"),
    NN: u32(516, "Number of Namespaces: the largest NSID"),
    ONCS: u16(520, "Optional NVM Command Support"),
    FUSES: u16(522, "Fused Operation Support"),
    FNA: u8(524, "Format NVM Attributes"),
    VWC: u8(525, "Volatile Write Cache"),
    AWUN: u16(526, "Atomic Write Unit Normal, blocks, 0's based"),
    AWUPF: u16(528, "Atomic Write Unit Power Fail, blocks, 0's based"),
    ICSVSCC: u8(530, "I/O Command Set Vendor Specific Command Configuration"),
    NWPC: u8(531, "Namespace Write Protection Capabilities"),
    ACWU: u16(532, "Atomic Compare & Write Unit, blocks, 0's based"),
    OCFS: u16(534, "Optional Copy Formats Supported: bit n is format n"),
    SGLS: u32(536, "SGL Support"),
    MNAN: u32(540, "Maximum Number of Allowed Namespaces"),
    MAXDNA: u128(544, "Maximum Domain Namespace Attachments"),
    MAXCNA: u32(560, "Maximum I/O Controller Namespace Attachments"),
    SUBNQN: cString(768, 256, "NVM Subsystem NVMe Qualified Name"),
    IOCCSZ: u32(1792, "I/O Queue Command Capsule Supported Size, 16-byte units"),
    IORCSZ: u32(1796, "I/O Queue Response Capsule Supported Size, 16-byte units"),
    ICDOFF: u16(1800, "In Capsule Data Offset, 16-byte units"),
    FCATT: u8(1802, "Fabrics Controller Attributes"),
    MSDBD: u8(1803, "Maximum SGL Data Block Descriptors; 0 no limit"),
    OFCS: u16(1804, "Optional Fabrics Commands Support"),
    DCTYPE: u8(1806, "Discovery Controller Type"),
    PSD: raw(2048, 1024, "Power State Descriptors, 32 of 32 bytes"),
    VS: raw(3072, 1024, "Vendor Specific"),
  },
);
/** Its fields: `IdCtrl.MDTS.get(view)`. */
export const IdCtrl = IDENTIFY_CONTROLLER.fields;

/** CNTRLTYPE values. */
export const ControllerType = { notReported: 0, io: 1, discovery: 2, administrative: 3 } as const;

/** Bits of CMIC. */
export const CMIC_MULTI_PORT = 0x01;
export const CMIC_MULTI_CONTROLLER = 0x02;
export const CMIC_SRIOV = 0x04;
export const CMIC_ANA = 0x08;
/** Bits of OAES, and of the Asynchronous Event Configuration feature. */
export const OAES_NAMESPACE_ATTRIBUTE = 0x100;
export const OAES_FIRMWARE_ACTIVATION = 0x200;
export const OAES_ANA_CHANGE = 0x800;
export const OAES_DISCOVERY_CHANGE = 0x8000_0000;
/** Bits of CTRATT. */
export const CTRATT_HOST_ID_128 = 0x01;
export const CTRATT_TRAFFIC_KEEP_ALIVE = 0x40;
export const CTRATT_EXTENDED_LBA_FORMATS = 0x8000;
/** Bits of OACS. */
export const OACS_FORMAT = 0x0002;
export const OACS_NAMESPACE_MANAGEMENT = 0x0008;
/** Bits of LPA. */
export const LPA_SMART_PER_NAMESPACE = 0x01;
export const LPA_COMMAND_EFFECTS = 0x02;
export const LPA_EXTENDED_DATA = 0x04;
/** Bits of ONCS. */
export const ONCS_COMPARE = 0x001;
export const ONCS_WRITE_UNCORRECTABLE = 0x002;
export const ONCS_DSM = 0x004;
export const ONCS_WRITE_ZEROES = 0x008;
export const ONCS_FEATURE_SAVE = 0x010;
export const ONCS_RESERVATIONS = 0x020;
export const ONCS_TIMESTAMP = 0x040;
export const ONCS_VERIFY = 0x080;
export const ONCS_COPY = 0x100;
/** Bits of OCFS. */
export const OCFS_FORMAT_0 = 0x01;
/** Bits of FUSES. */
export const FUSES_COMPARE_AND_WRITE = 0x01;
/** Bits of FNA. */
export const FNA_FORMAT_ALL = 0x01;
export const FNA_ERASE_ALL = 0x02;
export const FNA_CRYPTO_ERASE = 0x04;
/** Bits of VWC. */
export const VWC_PRESENT = 0x01;
/** VWC bits 2:1: whether Flush takes NSID FFFFFFFFh. */
export const VWC_FLUSH_ALL_NO = 0x04;
export const VWC_FLUSH_ALL_YES = 0x06;
/** Bits of SGLS. */
export const SGLS_SUPPORT = field(0, 2);
export const SGLS_BYTE_ALIGNED = 0x1;
export const SGLS_DWORD_ALIGNED = 0x2;
export const SGLS_KEYED = 0x4;
export const SGLS_BIT_BUCKET = 0x1_0000;
export const SGLS_MPTR_BYTE_ALIGNED = 0x2_0000;
export const SGLS_OVERSIZED = 0x4_0000;
export const SGLS_MPTR_SGL = 0x8_0000;
export const SGLS_OFFSET = 0x10_0000;
export const SGLS_TRANSPORT = 0x20_0000;

export const IDENTIFY_NAMESPACE = defineStruct(
  "Identify Namespace",
  "NVM Command Set 1.0, section 4.1.5.1",
  IDENTIFY_BYTES,
  {
    NSZE: u64(0, "Namespace Size, blocks"),
    NCAP: u64(8, "Namespace Capacity, blocks"),
    NUSE: u64(16, "Namespace Utilization, blocks"),
    NSFEAT: u8(24, "Namespace Features"),
    NLBAF: u8(25, "Number of LBA Formats, 0's based"),
    FLBAS: u8(26, "Formatted LBA Size"),
    MC: u8(27, "Metadata Capabilities"),
    DPC: u8(28, "End-to-end Data Protection Capabilities"),
    DPS: u8(29, "End-to-end Data Protection Type Settings"),
    NMIC: u8(30, "Multi-path I/O and Namespace Sharing Capabilities"),
    RESCAP: u8(31, "Reservation Capabilities"),
    FPI: u8(32, "Format Progress Indicator"),
    DLFEAT: u8(33, "Deallocate Logical Block Features"),
    NAWUN: u16(34, "Atomic Write Unit Normal"),
    NAWUPF: u16(36, "Atomic Write Unit Power Fail"),
    NACWU: u16(38, "Atomic Compare & Write Unit"),
    NABSN: u16(40, "Atomic Boundary Size Normal"),
    NABO: u16(42, "Atomic Boundary Offset"),
    NABSPF: u16(44, "Atomic Boundary Size Power Fail"),
    NOIOB: u16(46, "Optimal I/O Boundary, blocks"),
    NVMCAP: u128(48, "NVM Capacity, bytes"),
    NPWG: u16(64, "Preferred Write Granularity, 0's based"),
    NPWA: u16(66, "Preferred Write Alignment, 0's based"),
    NPDG: u16(68, "Preferred Deallocate Granularity, 0's based"),
    NPDA: u16(70, "Preferred Deallocate Alignment, 0's based"),
    NOWS: u16(72, "Optimal Write Size, 0's based"),
    MSSRL: u16(74, "Maximum Single Source Range Length of Copy, blocks"),
    MCL: u32(76, "Maximum Copy Length, blocks"),
    MSRC: u8(80, "Maximum Source Range Count of Copy, 0's based"),
    ANAGRPID: u32(92, "ANA Group Identifier"),
    NSATTR: u8(99, "Namespace Attributes"),
    NVMSETID: u16(100, "NVM Set Identifier"),
    ENDGID: u16(102, "Endurance Group Identifier"),
    NGUID: raw(104, 16, "Namespace Globally Unique Identifier, big-endian"),
    EUI64: raw(120, 8, "IEEE Extended Unique Identifier, big-endian"),
    LBAF: raw(128, 256, "LBA Formats, 64 of 4 bytes"),
    VS: raw(384, 3712, "Vendor Specific"),
  },
);
/** Its fields: `IdNs.NSZE.get(view)`. */
export const IdNs = IDENTIFY_NAMESPACE.fields;

/** FLBAS. The format's index is `FLBAS_INDEX_LO | FLBAS_INDEX_HI << 4`. */
export const FLBAS_INDEX_LO = field(0, 4);
export const FLBAS_EXTENDED = bit(4);
export const FLBAS_INDEX_HI = field(5, 2);
export const flbasIndex = (flbas: number): number =>
  FLBAS_INDEX_LO.get(flbas) | (FLBAS_INDEX_HI.get(flbas) << 4);
/** Bits of MC. */
export const MC_EXTENDED = 0x1;
export const MC_SEPARATE = 0x2;
/** Bits of DPC: types 1 to 3, then where PI may be. */
export const DPC_TYPE_1 = 0x01;
export const DPC_TYPE_2 = 0x02;
export const DPC_TYPE_3 = 0x04;
export const DPC_FIRST = 0x08;
export const DPC_LAST = 0x10;
/** DPS. */
export const DPS_TYPE = field(0, 3);
/** PI is the first 8 bytes of metadata; else the last. */
export const DPS_FIRST = bit(3);
/** NSFEAT. */
export const NSFEAT_THIN = 0x01;
export const NSFEAT_ATOMIC = 0x02;
export const NSFEAT_DEALLOCATED_ERROR = 0x04;
export const NSFEAT_UID_NOT_REUSED = 0x08;
export const NSFEAT_OPTIMAL_IO = 0x10;
/** DLFEAT. */
export const DLFEAT_READ_ZEROES = 0x01;
export const DLFEAT_WRITE_ZEROES_DEALLOCATE = 0x08;
export const DLFEAT_GUARD_CRC = 0x10;
/** NMIC bit 0. */
export const NMIC_SHARED = 0x01;

/** An LBA Format (NVM Command Set 1.0, figure "LBA Format Data Structure"). */
export const LBAF_MS = field(0, 16);
export const LBAF_LBADS = field(16, 8);
export const LBAF_RP = field(24, 2);
export const LBA_FORMATS_MAX = 64;

/** Dword of LBA format `index` in Identify Namespace data. */
export function getLbaFormat(view: DataView, index: number): number {
  return view.getUint32(IdNs.LBAF.offset + 4 * index, true);
}

export function setLbaFormat(
  view: DataView,
  index: number,
  lbads: number,
  ms: number,
  rp = 0,
): void {
  view.setUint32(IdNs.LBAF.offset + 4 * index, LBAF_LBADS.set(LBAF_RP.set(ms, rp), lbads), true);
}

/** CNS 06h, CSI 0: limits of commands without data transfer (NVM Command Set 1.0, 4.1.5.4). */
export const IDENTIFY_CONTROLLER_NVM = defineStruct(
  "Identify Controller, NVM Command Set",
  "NVM Command Set 1.0, section 4.1.5.4",
  IDENTIFY_BYTES,
  {
    VSL: u8(0, "Verify Size Limit, as MDTS"),
    WZSL: u8(1, "Write Zeroes Size Limit, as MDTS"),
    WUSL: u8(2, "Write Uncorrectable Size Limit, as MDTS"),
    DMRL: u8(3, "Dataset Management Ranges Limit"),
    DMRSL: u32(4, "Dataset Management Range Size Limit, blocks"),
    DMSL: u64(8, "Dataset Management Size Limit, blocks"),
  },
);
export const IdCtrlNvm = IDENTIFY_CONTROLLER_NVM.fields;

/** CNS 05h, CSI 0 (NVM Command Set 1.0, section 4.1.5.3). */
export const IDENTIFY_NAMESPACE_NVM = defineStruct(
  "Identify Namespace, NVM Command Set",
  "NVM Command Set 1.0, section 4.1.5.3",
  IDENTIFY_BYTES,
  {
    LBSTM: u64(0, "Logical Block Storage Tag Mask"),
    PIC: u8(8, "Protection Information Capabilities"),
    ELBAF: raw(12, 256, "Extended LBA Formats, 64 of 4 bytes: STS 6:0, PIF 8:7"),
  },
);
export const IdNsNvm = IDENTIFY_NAMESPACE_NVM.fields;

/** CNS 08h (Base 2.0, section 5.17.2.8). */
export const IDENTIFY_NAMESPACE_INDEPENDENT = defineStruct(
  "I/O Command Set Independent Identify Namespace",
  "NVM Express Base 2.0, section 5.17.2.8",
  IDENTIFY_BYTES,
  {
    NSFEAT: u8(0, "Common Namespace Features"),
    NMIC: u8(1, "Multi-path I/O and Namespace Sharing Capabilities"),
    RESCAP: u8(2, "Reservation Capabilities"),
    FPI: u8(3, "Format Progress Indicator"),
    ANAGRPID: u32(4, "ANA Group Identifier"),
    NSATTR: u8(8, "Namespace Attributes"),
    NVMSETID: u16(10, "NVM Set Identifier"),
    ENDGID: u16(12, "Endurance Group Identifier"),
    NSTAT: u8(14, "Namespace Status: bit 0 ready"),
  },
);
export const IdNsIndependent = IDENTIFY_NAMESPACE_INDEPENDENT.fields;

/** Namespace Identification Descriptor: a header of 4 bytes, then the identifier. */
export const NidOffset = { nidt: 0, nidl: 1, nid: 4 } as const;
/** NIDT values, and the length of each identifier. */
export const Nidt = { eui64: 1, nguid: 2, uuid: 3, csi: 4 } as const;
export const NIDT_BYTES: Readonly<Record<number, number>> = { 1: 8, 2: 16, 3: 16, 4: 1 };

/** Writes one descriptor at `offset` and returns where the next one goes. */
export function setNsDescriptor(
  bytes: Uint8Array,
  offset: number,
  nidt: number,
  nid: Uint8Array,
): number {
  bytes[offset + NidOffset.nidt] = nidt;
  bytes[offset + NidOffset.nidl] = nid.length;
  bytes.set(nid, offset + NidOffset.nid);
  return offset + NidOffset.nid + nid.length;
}

/** The descriptors of a list, up to its end or the first that is empty or does not fit. */
export function parseNsDescriptors(bytes: Uint8Array): { nidt: number; nid: Uint8Array }[] {
  const found: { nidt: number; nid: Uint8Array }[] = [];
  let at = 0;
  while (at + NidOffset.nid <= bytes.length) {
    const nidt = bytes[at] as number;
    const end = at + NidOffset.nid + (bytes[at + NidOffset.nidl] as number);
    if (nidt === 0 || end > bytes.length) break;
    found.push({ nidt, nid: bytes.slice(at + NidOffset.nid, end) });
    at = end;
  }
  return found;
}
