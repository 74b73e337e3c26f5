/**
 * The pieces of controller initialization (NVM Express Base 2.0, section 3.5.1), used once when a
 * controller is attached and again, in part, after each reset: rings, queue creation, Identify.
 */

import type { MappedRegion } from "../backing/interface.ts";
import { NVME_NAMESPACES_MAX, PeerlaneError, viewOf } from "../core/index.ts";
import type { DmaBuffer, DmaDevice } from "../dma/index.ts";
import {
  AdminOpcode,
  AQA_ACQS,
  AQA_ASQS,
  Cns,
  CQE_BYTES,
  CREATE_CQ_PC,
  CREATE_QID,
  CREATE_QSIZE,
  CREATE_SQ_CQID,
  CREATE_SQ_PC,
  Csi,
  cqHeadDoorbell,
  Feature,
  IDENTIFY_CSI,
  QUEUES_NCQ,
  QUEUES_NSQ,
  SQE_BYTES,
  sqTailDoorbell,
} from "../spec/nvme/index.ts";
import { AdminCommand, AdminQueue } from "./admin-queue.ts";
import type { Cmb } from "./cmb.ts";
import {
  type ControllerInfo,
  type NamespaceInfo,
  NO_NVM_LIMITS,
  type NvmLimits,
  parseController,
  parseNamespace,
  parseNvmLimits,
} from "./identify.ts";
import { IoQueue, type IoQueueOptions, type IoQueueOwner } from "./io-queue.hot.ts";
import { ListPages, wordsOf } from "./list-pages.ts";
import type { ResolvedOptions } from "./options.ts";
import type { QueueRings } from "./queue-pair.hot.ts";
import type { ControllerRegisters } from "./registers.ts";
import type { Steps } from "./steps.ts";

/** Entries of both admin queues. Control plane: a page of completions is more than enough. */
const ADMIN_ENTRIES = 32;

/** What every piece needs to know of the controller. */
export interface Site {
  readonly device: DmaDevice;
  readonly registers: ControllerRegisters;
  readonly options: ResolvedOptions;
  /** For errors: the function's name. */
  readonly place: string;
}

export interface AdminSite {
  readonly queue: AdminQueue;
  readonly sq: DmaBuffer;
  readonly cq: DmaBuffer;
  /** One page for Identify data. */
  readonly page: DmaBuffer;
  /** One page for log pages. */
  readonly log: DmaBuffer;
}

export interface IoSite {
  readonly queue: IoQueue;
  /** What Create I/O Submission Queue is told: host memory or CMB. */
  readonly sqAddress: number;
  readonly sq: DmaBuffer | null;
  readonly cq: DmaBuffer;
  readonly lists: ListPages;
  /** Offset in the CMB's provider, and bytes; -1: in host memory. */
  readonly cmbOffset: number;
  readonly sqBytes: number;
}

export function makeAdmin(site: Site): AdminSite {
  const { device, registers, options } = site;
  const { dstrd } = registers.capabilities;
  const sq = device.allocCoherent(ADMIN_ENTRIES * SQE_BYTES);
  const cq = device.allocCoherent(ADMIN_ENTRIES * CQE_BYTES);
  const rings: QueueRings = {
    qid: 0,
    depth: ADMIN_ENTRIES,
    sq: wordsOf(sq.bytes),
    cq: wordsOf(cq.bytes),
    cmb: null,
    cmbOffset: 0,
    registers: registers.region,
    sqDoorbell: sqTailDoorbell(0, dstrd),
    cqDoorbell: cqHeadDoorbell(0, dstrd),
  };
  const { clock } = device.fn.machine;
  return {
    queue: new AdminQueue(rings, clock, options.adminTimeoutNs, site.place),
    sq,
    cq,
    page: device.allocCoherent(4096),
    log: device.allocCoherent(4096),
  };
}

/** Empties the admin queue, sets it and enables the controller. It must be disabled. */
export function* enableController(site: Site, admin: AdminSite): Steps<void> {
  admin.queue.restart();
  const aqa = AQA_ACQS.set(AQA_ASQS.set(0, ADMIN_ENTRIES - 1), ADMIN_ENTRIES - 1);
  yield* site.registers.enable(aqa, admin.sq.dma, admin.cq.dma, site.options.pageBytes);
}

/** Sends Identify and leaves the data in `admin.page`. Throws when the controller refuses. */
function* identify(admin: AdminSite, cns: number, nsid = 0, csi = 0): Steps<Uint8Array> {
  admin.page.bytes.fill(0);
  const command = new AdminCommand(AdminOpcode.identify, nsid)
    .prps(admin.page.dma)
    .cdw(10, cns)
    .cdw(11, IDENTIFY_CSI.set(0, csi));
  yield* admin.queue.must(command);
  return admin.page.bytes;
}

export function* identifyController(site: Site, admin: AdminSite): Steps<ControllerInfo> {
  const bytes = yield* identify(admin, Cns.controller);
  return parseController(bytes, site.registers.capabilities.pageMinBytes);
}

/** CNS 06h is newer than the controllers that lack it; those have no such limits. */
export function* identifyNvmLimits(site: Site, admin: AdminSite): Steps<NvmLimits> {
  admin.page.bytes.fill(0);
  const command = new AdminCommand(AdminOpcode.identify)
    .prps(admin.page.dma)
    .cdw(10, Cns.controllerForCsi)
    .cdw(11, IDENTIFY_CSI.set(0, Csi.nvm));
  const { status } = yield* admin.queue.execute(command);
  if (status !== 0) return NO_NVM_LIMITS;
  return parseNvmLimits(admin.page.bytes, site.registers.capabilities.pageMinBytes);
}

/** All active namespaces, in order of NSID. */
export function* identifyNamespaces(admin: AdminSite): Steps<NamespaceInfo[]> {
  const nsids: number[] = [];
  let last = 0;
  for (;;) {
    const view = viewOf(yield* identify(admin, Cns.activeNamespaces, last));
    const before = nsids.length;
    for (let at = 0; at < 4096; at += 4) {
      const nsid = view.getUint32(at, true);
      if (nsid <= last || nsids.length === NVME_NAMESPACES_MAX) break;
      nsids.push(nsid);
      last = nsid;
    }
    if (nsids.length - before < 1024 || nsids.length === NVME_NAMESPACES_MAX) break;
  }
  const found: NamespaceInfo[] = [];
  for (const nsid of nsids) {
    found.push(parseNamespace(nsid, yield* identify(admin, Cns.namespace, nsid)));
  }
  return found;
}

/** Asks for `wanted` I/O queue pairs; answers how many there may be, at least one. */
export function* negotiateQueues(admin: AdminSite, wanted: number): Steps<number> {
  const command = new AdminCommand(AdminOpcode.setFeatures)
    .cdw(10, Feature.numberOfQueues)
    .cdw(11, QUEUES_NCQ.set(QUEUES_NSQ.set(0, wanted - 1), wanted - 1));
  const { dw0 } = yield* admin.queue.must(command);
  return Math.min(wanted, QUEUES_NSQ.get(dw0) + 1, QUEUES_NCQ.get(dw0) + 1);
}

export interface IoSiteOptions {
  readonly qid: number;
  readonly depth: number;
  readonly listPages: number;
  readonly sglSupported: boolean;
  /** Where the submission queue goes if there is room; null: host memory. */
  readonly cmb: Cmb | null;
}

/** Allocates an I/O queue pair. Nothing is told to the controller yet. */
export function makeIoQueue(site: Site, owner: IoQueueOwner, options: IoSiteOptions): IoSite {
  const { device, registers } = site;
  const { qid, depth, cmb } = options;
  const { dstrd } = registers.capabilities;
  const { pageBytes, sglThreshold, ioTimeoutNs, attemptsMax, tracer } = site.options;
  const sqBytes = depth * SQE_BYTES;
  const cmbOffset = cmb === null ? -1 : Math.max(-1, cmb.provider.alloc(sqBytes));
  const isInCmb = cmb !== null && cmbOffset >= 0;
  const sq = isInCmb ? null : device.allocCoherent(sqBytes, pageBytes);
  const cq = device.allocCoherent(depth * CQE_BYTES, pageBytes);
  const lists = new ListPages(device, depth - 1, options.listPages, pageBytes);
  let region: MappedRegion | null = null;
  if (isInCmb) region = device.fn.mapBar(cmb.bar);
  const rings: QueueRings = {
    qid,
    depth,
    sq: sq === null ? new Uint32Array(sqBytes / 4) : wordsOf(sq.bytes),
    cq: wordsOf(cq.bytes),
    cmb: region,
    cmbOffset: isInCmb ? cmb.offset + cmbOffset : 0,
    registers: registers.region,
    sqDoorbell: sqTailDoorbell(qid, dstrd),
    cqDoorbell: cqHeadDoorbell(qid, dstrd),
  };
  const ioOptions: IoQueueOptions = {
    pageBytes,
    sglThreshold,
    sglSupported: options.sglSupported,
    timeoutNs: ioTimeoutNs,
    attemptsMax,
    clock: device.fn.machine.clock,
    tracer,
  };
  const queue = new IoQueue(rings, lists, ioOptions, owner);
  const sqAddress = isInCmb ? cmb.bus + cmbOffset : (sq as DmaBuffer).dma;
  return { queue, sqAddress, sq, cq, lists, cmbOffset, sqBytes };
}

/** Creates the queues at the controller: completion queue first, since the other names it. */
export function* createQueues(admin: AdminSite, sites: readonly IoSite[]): Steps<void> {
  for (const { queue, cq, sqAddress } of sites) {
    const { qid, depth } = queue.pair;
    const cdw10 = CREATE_QSIZE.set(CREATE_QID.set(0, qid), depth - 1);
    yield* admin.queue.must(
      new AdminCommand(AdminOpcode.createIoCq)
        .prps(cq.dma)
        .cdw(10, cdw10)
        .cdw(11, CREATE_CQ_PC.bits),
    );
    yield* admin.queue.must(
      new AdminCommand(AdminOpcode.createIoSq)
        .prps(sqAddress)
        .cdw(10, cdw10)
        .cdw(11, CREATE_SQ_CQID.set(CREATE_SQ_PC.bits, qid)),
    );
  }
}

/** Deletes them again, submission queues first. A refusal does not matter: a disable follows. */
export function* deleteQueues(admin: AdminSite, sites: readonly IoSite[]): Steps<void> {
  for (const { queue } of sites) {
    const { qid } = queue.pair;
    yield* admin.queue.execute(new AdminCommand(AdminOpcode.deleteIoSq).cdw(10, qid));
    yield* admin.queue.execute(new AdminCommand(AdminOpcode.deleteIoCq).cdw(10, qid));
  }
}

export function freeAdmin(device: DmaDevice, { sq, cq, page, log }: AdminSite): void {
  for (const buffer of [sq, cq, page, log]) device.freeCoherent(buffer);
}

export function freeIoQueue(device: DmaDevice, site: IoSite, cmb: Cmb | null): void {
  if (site.sq !== null) device.freeCoherent(site.sq);
  device.freeCoherent(site.cq);
  site.lists.free();
  if (site.cmbOffset >= 0) cmb?.provider.free(site.cmbOffset, site.sqBytes);
}

/** Checks that this driver and the controller fit. Throws `nvme-unsupported`. */
export function checkCapabilities(site: Site): void {
  const { capabilities } = site.registers;
  const { pageBytes } = site.options;
  const refuse = (message: string, remedy: string): never => {
    throw new PeerlaneError("nvme-unsupported", message, { place: site.place, remedy });
  };
  if (!capabilities.hasNvmCommandSet) {
    refuse("the controller lacks the NVM command set (CAP.CSS)", "use an NVM controller");
  }
  if (pageBytes < capabilities.pageMinBytes || pageBytes > capabilities.pageMaxBytes) {
    refuse(
      `no pages of ${pageBytes} bytes (CAP.MPSMIN, CAP.MPSMAX)`,
      `use pageBytes from ${capabilities.pageMinBytes} to ${capabilities.pageMaxBytes}`,
    );
  }
  if (pageBytes > 4096 && site.device.mode === "strict") {
    refuse(
      "pages above 4096 bytes with an IOMMU in strict mode, which keeps 12 bits of an address",
      "use pageBytes 4096, or IOMMU mode passthrough",
    );
  }
}
