/**
 * Programming interface of Peerlane's model RNIC. The interfaces of real RNICs are private to their
 * vendors, so this one is ours; its parts are those every vendor has: registers, a mailbox for
 * control verbs, doorbells, rings of work queue entries in host memory, completion entries with an
 * owner bit. Version 1. All structures are little-endian unless a name says BE.
 *
 * BAR0 begins with a header that tells where the register block is, so that the block can lie
 * behind an MSI-X table wherever the modelled card has it.
 *
 * Index counters of rings run freely modulo 2^16; entry i of a ring is at `i mod depth`. The RECV
 * producer and the completion consumer are published in host memory (doorbell records), read by the
 * device when its copy says empty or full; the send producer is announced by a doorbell write.
 */

import {
  bit,
  defineLayout,
  defineRegisters,
  field,
  type Layout,
  type RegisterTable,
} from "../../core/index.ts";

const SOURCE = "Peerlane model RNIC interface, version 1";

/** Header at offset 0 of BAR0. */
export const RnicHeader = {
  signature: 0x00,
  version: 0x04,
  /** Offset of the register block in BAR0. */
  registers: 0x08,
  /** Offset of the doorbell page in BAR0. */
  doorbells: 0x0c,
  sizeBytes: 0x10,
} as const;

/** `PLRN` in memory order. */
export const RNIC_SIGNATURE = 0x4e524c50;
export const RNIC_VERSION = 1;

/** Where the blocks go: behind the space that MSI-X tables use, when the BAR is large enough. */
export const RNIC_REGISTERS_OFFSET = 0x10000;
export const RNIC_DOORBELLS_OFFSET = 0x11000;
/** In a BAR below 128 KiB. */
export const RNIC_SMALL_REGISTERS_OFFSET = 0x100;
export const RNIC_SMALL_DOORBELLS_OFFSET = 0x1000;
export const RNIC_BAR_BYTES_MIN = 0x2000;

/** Offsets in the register block. */
export const RnicReg = {
  CTRL: 0x00,
  STATUS: 0x04,
  QPMAX: 0x08,
  CQMAX: 0x0c,
  MRMAX: 0x10,
  PDMAX: 0x14,
  QLOG: 0x18,
  SGEMAX: 0x1c,
  RDDEPTH: 0x20,
  MTU: 0x24,
  MSGMAX: 0x28,
  LKEY: 0x2c,
  GID0: 0x30,
  GID1: 0x34,
  GID2: 0x38,
  GID3: 0x3c,
  MBOXLO: 0x40,
  MBOXHI: 0x44,
  CMD: 0x48,
  CMDSTS: 0x4c,
  EVTLO: 0x50,
  EVTHI: 0x54,
  EVTCI: 0x58,
} as const;
export const RNIC_REGISTER_BYTES = 0x100;

export const RnicCtrl = { enable: bit(0), reset: bit(1) } as const;
export const RnicStatus = { ready: bit(0), fatal: bit(1), eventsLost: bit(2) } as const;
/** CMDSTS: `code` is an {@link RnicCommandStatus}, `detail` depends on it. */
export const RnicCmdSts = { code: field(0, 8), detail: field(8, 23), busy: bit(31) } as const;

/** Offsets in the doorbell page. */
export const RnicDoorbell = {
  /** Send producer: bits 15:0 QP number, bits 31:16 producer counter. */
  send: 0x00,
  /** Receive queue of a queue pair in error has new entries: bits 15:0 QP number. */
  receive: 0x04,
  /** Arms a CQ for one interrupt: bits 15:0 CQ number, bit 31 solicited completions only. */
  arm: 0x08,
} as const;
export const RNIC_DOORBELL_BYTES = 0x1000;
/** QP and CQ numbers are below this, so that they fit a doorbell. */
export const RNIC_NUMBER_LIMIT = 0x10000;
/** Entries of one queue: producer counters of 16 bits tell full from empty up to half of that. */
export const RNIC_QUEUE_LOG_MAX = 15;

const ro = (name: keyof typeof RnicReg, low: number, width: number, text: string) => ({
  name,
  offset: RnicReg[name],
  bits: 32 as const,
  access: "RO" as const,
  text,
  fields: [{ name, field: field(low, width), text }],
});
const rw = (name: keyof typeof RnicReg, access: "RW" | "WO", text: string) => ({
  name,
  offset: RnicReg[name],
  bits: 32 as const,
  access,
  text,
  fields: [{ name, field: field(0, 32), text }],
});

export const RNIC_REGISTERS: RegisterTable = defineRegisters({
  name: "model RNIC",
  source: SOURCE,
  registers: [
    {
      name: "CTRL",
      offset: RnicReg.CTRL,
      bits: 32,
      access: "RW",
      text: "control",
      fields: [
        { name: "EN", field: RnicCtrl.enable, text: "enabled: doorbells and the wire are served" },
        { name: "RST", field: RnicCtrl.reset, text: "write 1: everything is forgotten" },
      ],
    },
    {
      name: "STATUS",
      offset: RnicReg.STATUS,
      bits: 32,
      access: "RO",
      text: "status",
      fields: [
        { name: "RDY", field: RnicStatus.ready, text: "enabled and working" },
        { name: "FTL", field: RnicStatus.fatal, text: "fatal error: reset needed" },
        { name: "EVL", field: RnicStatus.eventsLost, text: "the event ring overflowed" },
      ],
    },
    ro("QPMAX", 0, 32, "queue pairs"),
    ro("CQMAX", 0, 32, "completion queues"),
    ro("MRMAX", 0, 32, "memory regions"),
    ro("PDMAX", 0, 32, "protection domains"),
    ro("QLOG", 0, 8, "log2 of the entries of one queue"),
    ro("SGEMAX", 0, 8, "SGEs of one work request"),
    ro("RDDEPTH", 0, 8, "RDMA READs outstanding per queue pair"),
    ro("MTU", 0, 16, "active MTU in bytes"),
    ro("MSGMAX", 0, 32, "bytes of one message"),
    ro("LKEY", 0, 32, "reserved L_Key: SGEs under it carry DMA addresses"),
    ro("GID0", 0, 32, "GID bytes 0 to 3"),
    ro("GID1", 0, 32, "GID bytes 4 to 7"),
    ro("GID2", 0, 32, "GID bytes 8 to 11"),
    ro("GID3", 0, 32, "GID bytes 12 to 15"),
    rw("MBOXLO", "RW", "DMA address of the mailbox, low half"),
    rw("MBOXHI", "RW", "DMA address of the mailbox, high half"),
    rw("CMD", "WO", "opcode of the command in the mailbox: starts it"),
    {
      name: "CMDSTS",
      offset: RnicReg.CMDSTS,
      bits: 32,
      access: "RO",
      text: "command status",
      fields: [
        { name: "CODE", field: RnicCmdSts.code, text: "status of the last command" },
        { name: "DETAIL", field: RnicCmdSts.detail, text: "more about the status" },
        { name: "BUSY", field: RnicCmdSts.busy, text: "a command is being executed" },
      ],
    },
    rw("EVTLO", "RW", "DMA address of the event ring, low half"),
    rw("EVTHI", "RW", "DMA address of the event ring, high half"),
    rw("EVTCI", "WO", "event consumer counter"),
  ],
});

/** Send work queue entry. Its stride is 64 bytes times a power of two, by the SGEs of the queue. */
export const Wqe = {
  opcode: 0,
  /** Sum of `WrFlag`. */
  flags: 1,
  sgeCount: 2,
  /** Immediate data, the key to invalidate, or (fast register) the new key. */
  immediate: 4,
  /** u64. RDMA: remote address. Fast register: first address of the region. */
  remoteAddress: 8,
  /** RDMA: R_Key. Fast register: access. */
  rkey: 16,
  /** Fast register: number of ranges. */
  rangeCount: 20,
  /** Fast register: u64, bytes of the region. */
  regionLength: 24,
  /**
   * Fast register: u64. One range: its DMA address. More: DMA address of a list of {@link Range}.
   */
  ranges: 32,
  /** Datagram: 16 bytes, the destination's GID (BE, as on the wire). */
  gid: 8,
  destQpn: 24,
  qkey: 28,
  /** First {@link Sge}. */
  sges: 32,
} as const;
export const WQE_BYTES_MIN = 64;
export const WQE_STRIDE_LOG_MIN = 6;
export const WQE_STRIDE_LOG_MAX = 8;

/** Scatter/gather element, in send and receive entries. */
export const Sge = { address: 0, length: 8, lkey: 12, sizeBytes: 16 } as const;
export const SGE_LOG = 4;

/** Receive entry: SGEs alone, 16 bytes times a power of two; a L_Key of 0 ends a shorter list. */
export const RQE_STRIDE_LOG_MIN = 4;
export const RQE_STRIDE_LOG_MAX = 8;

/** SGEs in a send entry of this stride: 2, 6, 14. */
export const sgesOfWqe = (strideLog: number): number => ((1 << strideLog) - Wqe.sges) >> SGE_LOG;

/** Completion queue entry. */
export const Cqe = {
  byteLength: 0,
  /** Immediate data or the key that was invalidated. */
  immediate: 4,
  /** bits 23:0 QP number, bits 31:24 `WcOpcode` of a RECV (0 for sends: the driver knows). */
  qpnOpcode: 8,
  /** bits 23:0 sender's QP number (datagrams), bits 31:24 {@link CqeFlag}. */
  sourceFlags: 12,
  /** bits 15:0 counter of the work request. Sends complete all before it as well. */
  counter: 16,
  /** bits 7:0 `WcStatus`, bits 15:8 vendor syndrome (a `DmaStatus`). */
  status: 20,
  /** bit 0: owner. 1 in the ring's first pass, 0 in the second, and so on. Written last. */
  owner: 28,
  sizeBytes: 32,
} as const;
export const CQE_LOG = 5;

/** Flags of a completion entry. */
export const CqeFlag = {
  grh: 1,
  withImm: 2,
  /** Of the send queue. */
  send: 4,
  withInvalidate: 8,
  solicited: 16,
} as const;

/** Doorbell record: 64 bytes of host memory per queue, a u32 counter at offset 0. */
export const DOORBELL_RECORD_BYTES = 64;

/** Entry of the event ring. */
export const Eqe = { kind: 0, number: 4, detail: 8, owner: 12, sizeBytes: 16 } as const;
export const RNIC_EVENT_RING_LOG = 6;
export const RnicEvent = { qpFatal: 1, cqError: 2, deviceFatal: 3 } as const;

/**
 * Mailbox: one 4 KiB page. Input at 0, output at {@link MAILBOX_OUTPUT}, small range lists between.
 */
export const MAILBOX_BYTES = 4096;
export const MAILBOX_INPUT_BYTES = 128;
export const MAILBOX_RANGES = 256;
export const MAILBOX_OUTPUT = 2048;
export const MAILBOX_OUTPUT_BYTES = 32;

/** A part of a memory region that is contiguous for the device. */
export const Range = { address: 0, length: 8, sizeBytes: 16 } as const;
export const MAILBOX_RANGES_MAX = (MAILBOX_OUTPUT - MAILBOX_RANGES) / Range.sizeBytes;

export const RnicCommand = {
  allocPd: 0x01,
  deallocPd: 0x02,
  createCq: 0x10,
  destroyCq: 0x11,
  createMr: 0x20,
  destroyMr: 0x21,
  modifyMr: 0x22,
  createQp: 0x30,
  modifyQp: 0x31,
  queryQp: 0x32,
  destroyQp: 0x33,
} as const;
export type RnicCommand = (typeof RnicCommand)[keyof typeof RnicCommand];

export const RnicCommandStatus = {
  ok: 0,
  badOpcode: 1,
  /** A number, address or size in the input is out of range. */
  badParameter: 2,
  /** No free object of the kind. */
  noResources: 3,
  /** Others still refer to it. */
  busy: 4,
  /** The input names an object that does not exist. */
  noSuchObject: 5,
  /** Illegal change of state; detail is a `TransitionCheck`. */
  badTransition: 6,
  /** The mailbox could not be read or written; detail is a `DmaStatus`. */
  dmaFailed: 7,
  /** CTRL.EN is clear, or the device is in fatal error. */
  notEnabled: 8,
} as const;

export const RNIC_COMMAND_STATUS_NAMES: readonly string[] = [
  "ok",
  "unknown opcode",
  "parameter out of range",
  "no resources",
  "object in use",
  "no such object",
  "illegal change of queue pair state",
  "mailbox not reachable",
  "device not enabled",
];

const u32 = (name: string, offset: number, text: string) => ({
  name,
  offset,
  kind: "u32" as const,
  text,
});
const u64 = (name: string, offset: number, text: string) => ({
  name,
  offset,
  kind: "u64" as const,
  text,
});
const input = (name: string, fields: Layout["fields"]): Layout =>
  defineLayout({
    name,
    source: SOURCE,
    sizeBytes: MAILBOX_INPUT_BYTES,
    endian: "little",
    fields,
  });

/** Input of the commands that name one object: its number or key. */
export const ONE_OBJECT_IN = input("object", [u32("number", 0, "number or key of the object")]);

export const CREATE_CQ_IN = input("CREATE_CQ", [
  u32("depthLog", 0, "log2 of the entries"),
  u32("vector", 4, "interrupt vector"),
  u64("ring", 8, "DMA address of the ring"),
  u64("record", 16, "DMA address of the consumer's doorbell record"),
]);

export const CREATE_MR_IN = input("CREATE_MR", [
  u32("pd", 0, "protection domain"),
  u32("access", 4, "sum of Access"),
  u64("address", 8, "first address in the region's own terms"),
  u64("length", 16, "bytes; 0 with fastRegister"),
  u32("rangeCount", 24, "entries of the list; with fastRegister how many it may get"),
  u32("fastRegister", 28, "1: invalid until a fast register work request fills it"),
  u64("ranges", 32, "DMA address of the list of ranges"),
]);

/**
 * What MODIFY_MR makes of a region. Its key, address, length and access stay.
 *
 * - valid: from suspended or invalid, with new ranges.
 * - suspended: its translation is not to be used for now. Peers are answered RNR NAK, own work
 *   waits. Fails as busy while the region's domain is in the middle of a message.
 * - invalid: as if its key did not exist, until it is valid again or destroyed.
 */
export const MrState = { valid: 0, suspended: 1, invalid: 2 } as const;
export type MrState = (typeof MrState)[keyof typeof MrState];

export const MODIFY_MR_IN = input("MODIFY_MR", [
  u32("key", 0, "the region's key"),
  u32("state", 4, "MrState"),
  u32("rangeCount", 8, "valid: entries of the list, at most as many as it was made with"),
  u64("length", 16, "valid: bytes, as it was made with"),
  u64("ranges", 24, "valid: DMA address of the list of ranges"),
]);

export const CREATE_QP_IN = input("CREATE_QP", [
  u32("pd", 0, "protection domain"),
  u32("type", 4, "QpType"),
  u32("sendCq", 8, "completion queue of sends"),
  u32("recvCq", 12, "completion queue of receives"),
  u64("sendRing", 16, "DMA address of the send queue"),
  u32("sendLog", 24, "log2 of its entries"),
  u32("sendStrideLog", 28, "log2 of the bytes of one"),
  u64("recvRing", 32, "DMA address of the receive queue"),
  u32("recvLog", 40, "log2 of its entries"),
  u32("recvStrideLog", 44, "log2 of the bytes of one"),
  u64("recvRecord", 48, "DMA address of the receive producer's doorbell record"),
  u32("signalAll", 56, "1: every send work request completes visibly"),
]);

export const MODIFY_QP_IN = input("MODIFY_QP", [
  u32("number", 0, "QP number"),
  u32("mask", 4, "sum of QpAttr: what the input changes"),
  u32("state", 8, "QpState"),
  u32("accessFlags", 12, "sum of Access for the remote side"),
  u32("pkeyIndex", 16, "0"),
  u32("port", 20, "1"),
  u32("qkey", 24, "datagram queue key"),
  u32("pathMtu", 28, "bytes"),
  u32("destQpn", 32, "peer's QP number"),
  u32("rqPsn", 36, "first PSN expected"),
  u32("sqPsn", 40, "first PSN sent"),
  u32("maxDestRdAtomic", 44, "READs answered at a time"),
  u32("maxRdAtomic", 48, "READs outstanding"),
  u32("minRnrTimer", 52, "RNR NAK timer code"),
  u32("timeout", 56, "local ACK timeout code"),
  u32("retryCount", 60, "transport retries"),
  u32("rnrRetry", 64, "RNR retries, 7 for ever"),
  { name: "path", offset: 72, kind: "bytes", bytes: 16, text: "GID of the peer's port (BE)" },
]);

const output = (name: string, fields: Layout["fields"]): Layout =>
  defineLayout({
    name,
    source: SOURCE,
    sizeBytes: MAILBOX_OUTPUT_BYTES,
    endian: "little",
    fields,
  });

/** Output of the commands that make an object. */
export const ONE_OBJECT_OUT = output("object", [u32("number", 0, "number or key given")]);

export const QUERY_QP_OUT = output("QUERY_QP", [
  u32("state", 0, "QpState"),
  u32("sqPsn", 4, "next PSN sent"),
  u32("rqPsn", 8, "next PSN expected"),
  u32("sendPending", 12, "send work requests not completed"),
]);
