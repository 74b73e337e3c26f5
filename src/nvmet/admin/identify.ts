/**
 * Identify data of the target's controllers and namespaces. NVM Express Base Specification 2.0,
 * section 5.17; NVM Command Set 1.0, section 4.1.5.
 *
 * Every optional capability that is announced here is one that the block queues below have: a bit
 * of ONCS is set when all enabled namespaces can do it.
 */

import { QueueFeature } from "../../block/index.ts";
import {
  NVMET_ANA_GROUPS_MAX,
  NVMET_QUEUE_DEPTH_MAX,
  NVMET_SGL_DESCRIPTORS_MAX,
} from "../../core/index.ts";
import {
  allocateStruct,
  CMIC_ANA,
  CMIC_MULTI_CONTROLLER,
  CMIC_MULTI_PORT,
  Cns,
  ControllerType,
  Csi,
  CTRATT_HOST_ID_128,
  CTRATT_TRAFFIC_KEEP_ALIVE,
  DLFEAT_READ_ZEROES,
  DLFEAT_WRITE_ZEROES_DEALLOCATE,
  FUSES_COMPARE_AND_WRITE,
  IDENTIFY_BYTES,
  IdCtrl,
  IdNs,
  IdNsIndependent,
  LPA_COMMAND_EFFECTS,
  LPA_EXTENDED_DATA,
  LPA_SMART_PER_NAMESPACE,
  Nidt,
  OAES_ANA_CHANGE,
  OAES_DISCOVERY_CHANGE,
  OAES_NAMESPACE_ATTRIBUTE,
  OCFS_FORMAT_0,
  ONCS_COMPARE,
  ONCS_COPY,
  ONCS_DSM,
  ONCS_RESERVATIONS,
  ONCS_VERIFY,
  ONCS_WRITE_ZEROES,
  RESCAP_ALL_TYPES,
  RESCAP_IEKEY_13,
  RESCAP_PERSISTS,
  SGLS_BYTE_ALIGNED,
  SGLS_KEYED,
  SGLS_OFFSET,
  SGLS_TRANSPORT,
  setLbaFormat,
  setNsDescriptor,
  VERSION_2_0,
  VWC_FLUSH_ALL_NO,
  VWC_PRESENT,
} from "../../spec/nvme/index.ts";
import { CAPSULE_UNIT_BYTES, COMMAND_BYTES, RESPONSE_BYTES } from "../../spec/nvmf/index.ts";
import type { Attachments } from "../attachments.ts";
import { COPY_BYTES_MAX, COPY_RANGE_BYTES_MAX } from "../copy.hot.ts";
import { COPY_RANGES_MAX } from "../copy-run.ts";
import type { Namespace } from "../namespace.ts";
import type { Subsystem } from "../subsystem.ts";
import { ERROR_LOG_ENTRIES } from "./error-log.ts";
import { EVENT_REQUESTS_LIMIT } from "./events.ts";

/** What Identify needs to know of a controller. */
export interface ControllerFacts {
  readonly cntlid: number;
  readonly subsystem: Subsystem;
  readonly attached: Attachments;
  /** Data bytes in a capsule of an I/O queue. */
  readonly inCapsuleBytes: number;
  /** Data goes over the connection itself (TCP). */
  readonly usesStream: boolean;
  /** The target has memory of its own to copy through. */
  readonly canCopy: boolean;
}

/** Abort Command Limit, 0's based. */
const ABORT_LIMIT = 3;
/** ANACAP: optimized, non-optimized, inaccessible, persistent loss, change; ANAGRPID may change. */
const ANA_CAPABILITIES = 0x9f;
/** Seconds that a change of access takes at most. */
const ANA_TRANSITION_S = 10;
/** Supported sizes of entries: required 3:0, maximum 7:4. */
const SQES = 0x66;
const CQES = 0x44;
/** NMIC: the namespace may be attached to several controllers. */
const NMIC_SHARED = 0x01;
/** NSATTR: write protected. */
const NSATTR_WRITE_PROTECTED = 0x01;
/** Identifiers in a Controller List (Base 2.0, section 4.4.1). */
const CONTROLLER_LIST_MAX = 2047;
/** NSTAT: ready. */
const NSTAT_READY = 0x01;
/** DCTYPE: a Direct Discovery controller. */
const DCTYPE_DIRECT = 1;
/** OFCS: Disconnect. */
const OFCS_DISCONNECT = 0x01;

/** CNS 01h. */
export function identifyController(facts: ControllerFacts): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  const { subsystem, inCapsuleBytes } = facts;
  const { isDiscovery } = subsystem;
  IdCtrl.SN.set(view, subsystem.serial);
  IdCtrl.MN.set(view, subsystem.model);
  IdCtrl.FR.set(view, subsystem.firmware);
  IdCtrl.CMIC.set(view, isDiscovery ? 0 : CMIC_MULTI_PORT | CMIC_MULTI_CONTROLLER | CMIC_ANA);
  IdCtrl.MDTS.set(view, subsystem.mdts);
  IdCtrl.CNTLID.set(view, facts.cntlid);
  IdCtrl.VER.set(view, VERSION_2_0);
  const events = isDiscovery ? OAES_DISCOVERY_CHANGE : OAES_NAMESPACE_ATTRIBUTE | OAES_ANA_CHANGE;
  IdCtrl.OAES.set(view, events);
  IdCtrl.CTRATT.set(view, CTRATT_HOST_ID_128 | CTRATT_TRAFFIC_KEEP_ALIVE);
  IdCtrl.CNTRLTYPE.set(view, isDiscovery ? ControllerType.discovery : ControllerType.io);
  IdCtrl.ACL.set(view, ABORT_LIMIT);
  IdCtrl.AERL.set(view, EVENT_REQUESTS_LIMIT);
  IdCtrl.FRMW.set(view, 0x03);
  const perNamespace = isDiscovery ? 0 : LPA_SMART_PER_NAMESPACE;
  IdCtrl.LPA.set(view, LPA_COMMAND_EFFECTS | LPA_EXTENDED_DATA | perNamespace);
  IdCtrl.ELPE.set(view, ERROR_LOG_ENTRIES - 1);
  IdCtrl.KAS.set(view, 1);
  IdCtrl.MAXCMD.set(view, NVMET_QUEUE_DEPTH_MAX);
  const transportSgls = facts.usesStream ? SGLS_TRANSPORT : SGLS_KEYED;
  IdCtrl.SGLS.set(view, SGLS_BYTE_ALIGNED | SGLS_OFFSET | transportSgls);
  IdCtrl.SUBNQN.set(view, subsystem.nqn);
  IdCtrl.IOCCSZ.set(view, (COMMAND_BYTES + inCapsuleBytes) / CAPSULE_UNIT_BYTES);
  IdCtrl.IORCSZ.set(view, RESPONSE_BYTES / CAPSULE_UNIT_BYTES);
  // Descriptors beyond the first lie in the capsule, where data would be.
  const descriptors = facts.usesStream ? 1 : Math.floor(inCapsuleBytes / CAPSULE_UNIT_BYTES);
  IdCtrl.MSDBD.set(view, Math.min(NVMET_SGL_DESCRIPTORS_MAX, Math.max(1, descriptors)));
  if (isDiscovery) IdCtrl.DCTYPE.set(view, DCTYPE_DIRECT);
  IdCtrl.OFCS.set(view, OFCS_DISCONNECT);
  if (!isDiscovery) setNvmFields(view, facts);
  return bytes;
}

function setNvmFields(view: DataView, facts: ControllerFacts): void {
  const { subsystem, attached, canCopy } = facts;
  const namespaces = attached.active();
  IdCtrl.ANATT.set(view, ANA_TRANSITION_S);
  IdCtrl.ANACAP.set(view, ANA_CAPABILITIES);
  IdCtrl.ANAGRPMAX.set(view, NVMET_ANA_GROUPS_MAX);
  IdCtrl.NANAGRPID.set(view, NVMET_ANA_GROUPS_MAX);
  IdCtrl.SQES.set(view, SQES);
  IdCtrl.CQES.set(view, CQES);
  IdCtrl.NN.set(view, subsystem.nsidMax);
  IdCtrl.MNAN.set(view, subsystem.nsidMax);
  IdCtrl.ONCS.set(view, optionalCommands(namespaces, canCopy));
  if (canCopy) IdCtrl.OCFS.set(view, OCFS_FORMAT_0);
  const canCompare = namespaces.every(({ queue }) => (queue.features & QueueFeature.compare) !== 0);
  IdCtrl.FUSES.set(view, canCompare ? FUSES_COMPARE_AND_WRITE : 0);
  const hasCache = namespaces.some(({ queue }) => (queue.features & QueueFeature.writeCache) !== 0);
  IdCtrl.VWC.set(view, (hasCache ? VWC_PRESENT : 0) | VWC_FLUSH_ALL_NO);
}

/** Bits of ONCS that every namespace can honour. */
export function optionalCommands(namespaces: readonly Namespace[], canCopy: boolean): number {
  const all = (feature: number): boolean =>
    namespaces.every(({ queue }) => (queue.features & feature) !== 0);
  // Deallocating is a hint, and is taken by every namespace.
  let oncs = ONCS_DSM | ONCS_RESERVATIONS;
  if (canCopy) oncs |= ONCS_COPY;
  if (all(QueueFeature.compare)) oncs |= ONCS_COMPARE;
  if (all(QueueFeature.writeZeroes)) oncs |= ONCS_WRITE_ZEROES;
  if (all(QueueFeature.verify)) oncs |= ONCS_VERIFY;
  return oncs;
}

/** CNS 00h. */
export function identifyNamespace(namespace: Namespace): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  const { limits } = namespace.queue;
  IdNs.NSZE.set(view, namespace.blocks);
  IdNs.NCAP.set(view, namespace.blocks);
  IdNs.NUSE.set(view, namespace.blocks);
  IdNs.NMIC.set(view, NMIC_SHARED);
  IdNs.RESCAP.set(view, reservationCapabilities(namespace));
  IdNs.NSATTR.set(view, namespace.isWriteProtected ? NSATTR_WRITE_PROTECTED : 0);
  IdNs.ANAGRPID.set(view, namespace.anaGroup);
  IdNs.NOIOB.set(view, Math.min(0xffff, limits.chunkBytes / namespace.blockBytes));
  const unmaps = (namespace.queue.features & QueueFeature.unmapZeroes) !== 0;
  IdNs.DLFEAT.set(view, unmaps ? DLFEAT_READ_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATE : 0);
  IdNs.MSSRL.set(view, COPY_RANGE_BYTES_MAX / namespace.blockBytes);
  IdNs.MCL.set(view, COPY_BYTES_MAX / namespace.blockBytes);
  IdNs.MSRC.set(view, COPY_RANGES_MAX - 1);
  IdNs.NVMCAP.set(view, namespace.blocks * namespace.blockBytes);
  if (namespace.nguid !== null) IdNs.NGUID.set(view, namespace.nguid);
  if (namespace.eui64 !== null) IdNs.EUI64.set(view, namespace.eui64);
  setLbaFormat(view, 0, Math.log2(namespace.blockBytes), 0);
  return bytes;
}

function reservationCapabilities({ reservations }: Namespace): number {
  const persists = reservations.canPersist ? RESCAP_PERSISTS : 0;
  return RESCAP_ALL_TYPES | RESCAP_IEKEY_13 | persists;
}

/** CNS 03h. */
export function namespaceDescriptors(namespace: Namespace): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  const { eui64, nguid, uuid } = namespace;
  let at = eui64 === null ? 0 : setNsDescriptor(bytes, 0, Nidt.eui64, eui64);
  if (nguid !== null) at = setNsDescriptor(bytes, at, Nidt.nguid, nguid);
  at = setNsDescriptor(bytes, at, Nidt.uuid, uuid);
  setNsDescriptor(bytes, at, Nidt.csi, Uint8Array.of(Csi.nvm));
  return bytes;
}

/** CNS 08h. */
export function identifyNamespaceIndependent(namespace: Namespace): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  IdNsIndependent.NMIC.set(view, NMIC_SHARED);
  IdNsIndependent.RESCAP.set(view, reservationCapabilities(namespace));
  IdNsIndependent.ANAGRPID.set(view, namespace.anaGroup);
  IdNsIndependent.NSATTR.set(view, namespace.isWriteProtected ? NSATTR_WRITE_PROTECTED : 0);
  IdNsIndependent.NSTAT.set(view, NSTAT_READY);
  return bytes;
}

/** CNS 02h and 07h: active namespaces above `nsid`, in order. */
export function activeNamespaces(attached: Attachments, nsid: number): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  const active = attached.active().filter((namespace) => namespace.nsid > nsid);
  for (const [i, namespace] of active.slice(0, IDENTIFY_BYTES / 4).entries()) {
    view.setUint32(i * 4, namespace.nsid, true);
  }
  return bytes;
}

/** CNS 12h and 13h: controllers from `first` on, that see the namespace if there is one. */
export function controllerList(
  subsystem: Subsystem,
  namespace: Namespace | null,
  first: number,
): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  const ids = [...subsystem.controllers.values()]
    .filter(({ hostNqn }) => namespace === null || namespace.isVisibleTo(hostNqn))
    .map(({ cntlid }) => cntlid)
    .filter((cntlid) => cntlid >= first)
    .sort((a, b) => a - b)
    .slice(0, CONTROLLER_LIST_MAX);
  view.setUint16(0, ids.length, true);
  for (const [i, cntlid] of ids.entries()) view.setUint16(2 + 2 * i, cntlid, true);
  return bytes;
}

/** CNS 1Ch: one combination of I/O command sets, the NVM command set alone. */
export function ioCommandSets(): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  view.setUint32(0, 1 << Csi.nvm, true);
  return bytes;
}

/** True for a CNS that asks about one namespace. */
export function isAboutNamespace(cns: number): boolean {
  return (
    cns === Cns.namespace ||
    cns === Cns.namespaceDescriptors ||
    cns === Cns.namespaceForCsi ||
    cns === Cns.allocatedNamespace ||
    cns === Cns.allocatedNamespaceForCsi ||
    cns === Cns.controllersOfNamespace ||
    cns === Cns.namespaceIndependent
  );
}
