/**
 * Identify data in the driver's words: what of a controller and its namespaces the I/O path needs
 * to know (NVM Express Base 2.0, section 5.17; NVM Command Set 1.0, section 4.1.5).
 *
 * Leaves out: what only tools show (power states, thermal limits); `IdCtrl` of spec/nvme has it.
 */

import type { IntegrityProfile } from "../block/index.ts";
import { viewOf } from "../core/index.ts";
import {
  DLFEAT_READ_ZEROES,
  DLFEAT_WRITE_ZEROES_DEALLOCATE,
  DPS_FIRST,
  DPS_TYPE,
  FLBAS_EXTENDED,
  flbasIndex,
  getLbaFormat,
  IdCtrl,
  IdCtrlNvm,
  IdNs,
  LBAF_LBADS,
  LBAF_MS,
  PI_BYTES,
  piOffsetInMetadata,
  SGLS_SUPPORT,
  VWC_PRESENT,
} from "../spec/nvme/index.ts";

const UNMAPS_ZEROES = DLFEAT_READ_ZEROES | DLFEAT_WRITE_ZEROES_DEALLOCATE;

/** A controller, as it says of itself. */
export interface ControllerInfo {
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  readonly controllerId: number;
  readonly subsystemNqn: string;
  /** Largest transfer in bytes; Infinity: no limit. */
  readonly maxTransferBytes: number;
  readonly namespaceIdMax: number;
  /** Bits of ONCS. */
  readonly oncs: number;
  readonly hasVolatileCache: boolean;
  /** SGLS: SGL support. */
  readonly sgls: number;
  readonly sglSupported: boolean;
  /** Data block descriptors per SGL at most; 0: no limit. */
  readonly sglDescriptorsMax: number;
  /** Aborts in flight at most. */
  readonly abortLimit: number;
  readonly asyncEventLimit: number;
  /** Asynchronous events it can report: bits of OAES. */
  readonly oaes: number;
  /** Time for a shutdown, ns; 0: it does not say. */
  readonly shutdownNs: number;
}

/** `pageMinBytes`: CAP.MPSMIN in bytes, the unit of MDTS. */
export function parseController(bytes: Uint8Array, pageMinBytes: number): ControllerInfo {
  const view = viewOf(bytes);
  const mdts = IdCtrl.MDTS.get(view);
  const sgls = IdCtrl.SGLS.get(view);
  return {
    serial: IdCtrl.SN.get(view),
    model: IdCtrl.MN.get(view),
    firmware: IdCtrl.FR.get(view),
    controllerId: IdCtrl.CNTLID.get(view),
    subsystemNqn: IdCtrl.SUBNQN.get(view),
    maxTransferBytes: mdts === 0 ? Number.POSITIVE_INFINITY : 2 ** mdts * pageMinBytes,
    namespaceIdMax: IdCtrl.NN.get(view),
    oncs: IdCtrl.ONCS.get(view),
    hasVolatileCache: (IdCtrl.VWC.get(view) & VWC_PRESENT) !== 0,
    sgls,
    sglSupported: SGLS_SUPPORT.get(sgls) !== 0,
    sglDescriptorsMax: IdCtrl.MSDBD.get(view),
    abortLimit: IdCtrl.ACL.get(view) + 1,
    asyncEventLimit: IdCtrl.AERL.get(view) + 1,
    oaes: IdCtrl.OAES.get(view),
    shutdownNs: IdCtrl.RTD3E.get(view) * 1e3,
  };
}

/** Limits of commands without data (CNS 06h). Zero: the controller gives none. */
export interface NvmLimits {
  /** Bytes. */
  readonly verifyBytes: number;
  readonly writeZeroesBytes: number;
  /** Blocks of one Dataset Management range. */
  readonly discardBlocks: number;
}

export const NO_NVM_LIMITS: NvmLimits = { verifyBytes: 0, writeZeroesBytes: 0, discardBlocks: 0 };

export function parseNvmLimits(bytes: Uint8Array, pageMinBytes: number): NvmLimits {
  const view = viewOf(bytes);
  const sizeOf = (power: number): number => (power === 0 ? 0 : 2 ** power * pageMinBytes);
  return {
    verifyBytes: sizeOf(IdCtrlNvm.VSL.get(view)),
    writeZeroesBytes: sizeOf(IdCtrlNvm.WZSL.get(view)),
    discardBlocks: IdCtrlNvm.DMRSL.get(view),
  };
}

export interface NamespaceInfo {
  readonly nsid: number;
  /** Size in logical blocks. */
  readonly blocks: number;
  readonly lbaBytes: number;
  /** log2 of {@link lbaBytes}. */
  readonly lbaShift: number;
  readonly capacityBytes: number;
  /** Metadata bytes per block. */
  readonly metadataBytes: number;
  /** 0: no protection information; else type 1 to 3. */
  readonly piType: number;
  readonly integrity: IntegrityProfile | null;
  /** Requests should not cross multiples of this many bytes; 0: they may. */
  readonly boundaryBytes: number;
  readonly nguid: Uint8Array;
  readonly eui64: Uint8Array;
  /** Deallocated blocks read as zeros, and Write Zeroes may deallocate (DLFEAT). */
  readonly unmapsZeroes: boolean;
  /** Why this driver cannot use the namespace, or null. */
  readonly unsupported: string | null;
}

export function parseNamespace(nsid: number, bytes: Uint8Array): NamespaceInfo {
  const view = viewOf(bytes);
  const flbas = IdNs.FLBAS.get(view);
  const format = getLbaFormat(view, flbasIndex(flbas));
  const lbaShift = LBAF_LBADS.get(format);
  const lbaBytes = 2 ** lbaShift;
  const metadataBytes = LBAF_MS.get(format);
  const dps = IdNs.DPS.get(view);
  const piType = DPS_TYPE.get(dps);
  const extendedLba = FLBAS_EXTENDED.get(flbas) === 1;
  const blocks = IdNs.NSZE.get(view);
  const controllerInserts = metadataBytes === PI_BYTES;
  return {
    nsid,
    blocks,
    lbaBytes,
    lbaShift,
    capacityBytes: blocks * lbaBytes,
    metadataBytes,
    piType,
    integrity:
      piType === 0
        ? null
        : {
            piType,
            blockBytes: lbaBytes,
            metadataBytes,
            tupleOffset: piOffsetInMetadata(metadataBytes, DPS_FIRST.get(dps) === 1),
            extendedLba,
            controllerInserts,
          },
    boundaryBytes: IdNs.NOIOB.get(view) * lbaBytes,
    nguid: IdNs.NGUID.get(view).slice(),
    eui64: IdNs.EUI64.get(view).slice(),
    // With protection information deallocated blocks read as ones there.
    unmapsZeroes: piType === 0 && (IdNs.DLFEAT.get(view) & UNMAPS_ZEROES) === UNMAPS_ZEROES,
    unsupported: whyUnsupported(lbaShift, metadataBytes, piType, extendedLba),
  };
}

function whyUnsupported(
  lbaShift: number,
  metadataBytes: number,
  piType: number,
  extendedLba: boolean,
): string | null {
  if (lbaShift < 9 || lbaShift > 16) return `logical blocks of 2^${lbaShift} bytes`;
  if (piType > 3) return `protection information type ${piType}`;
  if (metadataBytes > 0 && piType === 0) return "metadata without protection information";
  if (extendedLba && metadataBytes > PI_BYTES) {
    return "metadata inside logical blocks that the controller cannot insert";
  }
  return null;
}
