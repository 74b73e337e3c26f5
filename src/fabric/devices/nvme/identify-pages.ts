/**
 * The pages that Identify returns (NVM Express Base 2.0, section 5.17; NVM Command Set 1.0, section
 * 4.1.5), made from the controller's configuration and the namespaces' formats.
 */

import { viewOf } from "../../../core/index.ts";
import {
  allocateStruct,
  CMIC_MULTI_CONTROLLER,
  ControllerType,
  CQE_SHIFT,
  Csi,
  CTRATT_HOST_ID_128,
  DLFEAT_READ_ZEROES,
  DLFEAT_WRITE_ZEROES_DEALLOCATE,
  DPC_FIRST,
  DPC_LAST,
  DPC_TYPE_1,
  DPC_TYPE_2,
  DPC_TYPE_3,
  DPS_FIRST,
  DPS_TYPE,
  FLBAS_EXTENDED,
  FLBAS_INDEX_LO,
  FNA_CRYPTO_ERASE,
  IDENTIFY_BYTES,
  IdCtrl,
  IdCtrlNvm,
  IdNs,
  IdNsIndependent,
  LPA_COMMAND_EFFECTS,
  LPA_EXTENDED_DATA,
  MC_EXTENDED,
  MC_SEPARATE,
  Nidt,
  NMIC_SHARED,
  NSFEAT_UID_NOT_REUSED,
  OACS_FORMAT,
  OAES_NAMESPACE_ATTRIBUTE,
  ONCS_COMPARE,
  ONCS_COPY,
  ONCS_DSM,
  ONCS_FEATURE_SAVE,
  ONCS_VERIFY,
  ONCS_WRITE_ZEROES,
  SGLS_BIT_BUCKET,
  SGLS_BYTE_ALIGNED,
  SGLS_MPTR_BYTE_ALIGNED,
  SGLS_MPTR_SGL,
  SGLS_OFFSET,
  SQE_SHIFT,
  setLbaFormat,
  setNsDescriptor,
  VERSION_1_3,
  VERSION_2_0,
  VWC_FLUSH_ALL_YES,
  VWC_PRESENT,
} from "../../../spec/nvme/index.ts";
import { COPY_MCL, COPY_MSRC, COPY_MSSRL, NO_DATA_SHIFT } from "./io-commands.hot.ts";
import { LBA_FORMATS, type LbaFormat, type Namespace } from "./namespace.ts";
import type { NvmeConfig } from "./options.ts";

/** Aborts at once, 0's based; they are done one by one, so any number would do. */
const ABORT_LIMIT = 3;

function sglSupport(config: NvmeConfig): number {
  if (!config.sgl) return 0;
  const offset = config.cmb === null ? 0 : SGLS_OFFSET;
  return SGLS_BYTE_ALIGNED | SGLS_BIT_BUCKET | SGLS_MPTR_BYTE_ALIGNED | SGLS_MPTR_SGL | offset;
}

export function identifyController(config: NvmeConfig, namespaces: readonly Namespace[]) {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  const there = namespaces.filter(({ isThere }) => isThere);
  const capacity = there.reduce((sum, ns) => sum + ns.store.capacityBytes, 0);
  const shared = namespaces.some((ns) => ns.shared);
  IdCtrl.VID.set(view, config.vendorId);
  IdCtrl.SSVID.set(view, config.subsystemVendorId);
  IdCtrl.SN.set(view, config.serial);
  IdCtrl.MN.set(view, config.model);
  IdCtrl.FR.set(view, config.firmware);
  IdCtrl.RAB.set(view, 5);
  IdCtrl.CMIC.set(view, shared ? CMIC_MULTI_CONTROLLER : 0);
  IdCtrl.MDTS.set(view, config.mdts);
  IdCtrl.CNTLID.set(view, config.controllerId);
  IdCtrl.VER.set(view, config.cmb?.legacy === true ? VERSION_1_3 : VERSION_2_0);
  IdCtrl.OAES.set(view, OAES_NAMESPACE_ATTRIBUTE);
  IdCtrl.CTRATT.set(view, CTRATT_HOST_ID_128);
  IdCtrl.CNTRLTYPE.set(view, ControllerType.io);
  IdCtrl.OACS.set(view, OACS_FORMAT);
  IdCtrl.ACL.set(view, ABORT_LIMIT);
  IdCtrl.AERL.set(view, config.asyncEventRequests - 1);
  // One firmware slot, and it is read-only.
  IdCtrl.FRMW.set(view, 0x3);
  IdCtrl.LPA.set(view, LPA_COMMAND_EFFECTS | LPA_EXTENDED_DATA);
  IdCtrl.ELPE.set(view, config.errorLogEntries - 1);
  IdCtrl.WCTEMP.set(view, 343);
  IdCtrl.CCTEMP.set(view, 353);
  IdCtrl.TNVMCAP.set(view, capacity);
  IdCtrl.SQES.set(view, (SQE_SHIFT << 4) | SQE_SHIFT);
  IdCtrl.CQES.set(view, (CQE_SHIFT << 4) | CQE_SHIFT);
  IdCtrl.NN.set(view, namespaces.length);
  IdCtrl.ONCS.set(
    view,
    ONCS_COMPARE | ONCS_DSM | ONCS_WRITE_ZEROES | ONCS_FEATURE_SAVE | ONCS_VERIFY | ONCS_COPY,
  );
  IdCtrl.FNA.set(view, FNA_CRYPTO_ERASE);
  IdCtrl.VWC.set(view, (config.volatileWriteCache ? VWC_PRESENT : 0) | VWC_FLUSH_ALL_YES);
  IdCtrl.OCFS.set(view, 1);
  IdCtrl.SGLS.set(view, sglSupport(config));
  IdCtrl.SUBNQN.set(view, config.subnqn);
  return bytes;
}

export function identifyNamespace(ns: Namespace): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  IdNs.NSZE.set(view, ns.blocks);
  IdNs.NCAP.set(view, ns.blocks);
  IdNs.NUSE.set(view, ns.blocks);
  IdNs.NSFEAT.set(view, NSFEAT_UID_NOT_REUSED);
  IdNs.NLBAF.set(view, LBA_FORMATS.length - 1);
  IdNs.FLBAS.set(
    view,
    FLBAS_EXTENDED.set(FLBAS_INDEX_LO.set(0, ns.formatIndex), ns.extended ? 1 : 0),
  );
  IdNs.MC.set(view, MC_EXTENDED | MC_SEPARATE);
  IdNs.DPC.set(view, DPC_TYPE_1 | DPC_TYPE_2 | DPC_TYPE_3 | DPC_FIRST | DPC_LAST);
  IdNs.DPS.set(view, DPS_FIRST.set(DPS_TYPE.set(0, ns.piType), ns.piFirst ? 1 : 0));
  IdNs.NMIC.set(view, ns.shared ? NMIC_SHARED : 0);
  const { deallocates } = ns.store;
  IdNs.DLFEAT.set(view, deallocates ? DLFEAT_READ_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATE : 0);
  IdNs.NVMCAP.set(view, ns.store.capacityBytes);
  IdNs.MSSRL.set(view, COPY_MSSRL);
  IdNs.MCL.set(view, COPY_MCL);
  IdNs.MSRC.set(view, COPY_MSRC);
  IdNs.NSATTR.set(view, ns.readOnly ? 1 : 0);
  IdNs.NGUID.set(view, ns.identity.nguid);
  IdNs.EUI64.set(view, ns.identity.eui64);
  LBA_FORMATS.forEach(({ lbaBytes, metadataBytes }: LbaFormat, i) => {
    setLbaFormat(view, i, Math.log2(lbaBytes), metadataBytes);
  });
  return bytes;
}

/** CNS 08h. */
export function identifyNamespaceIndependent(ns: Namespace): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  IdNsIndependent.NSFEAT.set(view, NSFEAT_UID_NOT_REUSED);
  IdNsIndependent.NMIC.set(view, ns.shared ? NMIC_SHARED : 0);
  IdNsIndependent.NSATTR.set(view, ns.readOnly ? 1 : 0);
  IdNsIndependent.NSTAT.set(view, 1);
  return bytes;
}

/** CNS 06h for the NVM Command Set: commands without data are cut as those with data are. */
export function identifyControllerNvm(): Uint8Array {
  const { bytes, view } = allocateStruct(IDENTIFY_BYTES);
  IdCtrlNvm.VSL.set(view, NO_DATA_SHIFT);
  IdCtrlNvm.WZSL.set(view, NO_DATA_SHIFT);
  return bytes;
}

export function namespaceDescriptors(ns: Namespace): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  let at = setNsDescriptor(bytes, 0, Nidt.eui64, ns.identity.eui64);
  at = setNsDescriptor(bytes, at, Nidt.nguid, ns.identity.nguid);
  at = setNsDescriptor(bytes, at, Nidt.uuid, ns.identity.uuid);
  setNsDescriptor(bytes, at, Nidt.csi, Uint8Array.of(Csi.nvm));
  return bytes;
}

/** NSIDs above `after`, up to 1024. */
export function namespaceList(namespaces: readonly Namespace[], after: number): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  const view = viewOf(bytes);
  let at = 0;
  for (const { nsid, isThere } of namespaces) {
    if (!isThere || nsid <= after || at >= IDENTIFY_BYTES) continue;
    view.setUint32(at, nsid, true);
    at += 4;
  }
  return bytes;
}

/** A controller list with this controller, if its id is at least `from`. */
export function controllerList(controllerId: number, from: number): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  if (controllerId >= from) {
    const view = viewOf(bytes);
    view.setUint16(0, 1, true);
    view.setUint16(2, controllerId, true);
  }
  return bytes;
}

/** CNS 1Ch: one combination, the NVM Command Set alone. */
export function ioCommandSets(): Uint8Array {
  const bytes = new Uint8Array(IDENTIFY_BYTES);
  bytes[0] = 1 << Csi.nvm;
  return bytes;
}
