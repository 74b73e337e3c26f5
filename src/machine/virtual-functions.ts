/**
 * Virtual functions: which physical function each belongs to, by SR-IOV offset and stride, and what
 * follows for its ids and BARs. PCIe Base 6.0 sections 9.2.1.2 (routing ids) and 9.3.4 (their
 * configuration space: ids read all ones, BARs zeros).
 *
 * Invariant: a virtual function decodes memory if and only if its physical function has VF Memory
 * Space Enable set; dumps tell that as VF Enable.
 */

import { type Bdf, bdfDomain, bdfRequesterId, formatBdf } from "../core/index.ts";
import { UNKNOWN_ID, unknownField } from "./blank.ts";
import type { Bar, PciFunction, SriovFacts } from "./snapshot.ts";

/** Requester id of virtual function `n` (from 0) of a physical function; null beyond 16 bits. */
export function virtualFunctionBdf(physical: Bdf, sriov: SriovFacts, n: number): Bdf | null {
  const id = bdfRequesterId(physical) + sriov.firstVfOffset + n * sriov.vfStride;
  return id > 0xffff ? null : ((bdfDomain(physical) * 65_536 + id) as Bdf);
}

/** BARs of virtual function `n`, where the physical function's registers and sizes tell them. */
function barsOf(fn: PciFunction, sriov: SriovFacts, n: number): Bar[] {
  const bars = fn.bars.map((bar) => ({ ...bar, enabled: sriov.vfEnable && bar.address !== 0 }));
  for (const bar of sriov.bars) {
    if (bars.some(({ index }) => index === bar.index)) continue;
    // The first one starts where the register says, even when the size is unknown.
    const address =
      n === 0 ? bar.address : bar.sizeBytes === null ? 0 : bar.address + n * bar.sizeBytes;
    bars.push({ ...bar, address, enabled: sriov.vfEnable && address !== 0 });
  }
  return bars.sort((a, b) => a.index - b.index);
}

/** The size of each VF BAR, learnt from virtual functions whose text names it. */
function learnSizes(sriov: SriovFacts, virtuals: readonly PciFunction[]): SriovFacts {
  const bars = sriov.bars.map((bar) => {
    if (bar.sizeBytes !== null) return bar;
    for (const fn of virtuals) {
      const size = fn.bars.find(({ index }) => index === bar.index)?.sizeBytes ?? null;
      if (size !== null) return { ...bar, sizeBytes: size };
    }
    return bar;
  });
  return { ...sriov, bars };
}

function asVirtual(
  fn: PciFunction,
  physical: PciFunction,
  sriov: SriovFacts,
  n: number,
): PciFunction {
  const vendorId = fn.vendorId === UNKNOWN_ID ? physical.vendorId : fn.vendorId;
  const deviceId = fn.deviceId === UNKNOWN_ID ? sriov.vfDeviceId : fn.deviceId;
  const bars = barsOf(fn, sriov, n);
  const unknown = fn.unknown.filter(
    ({ field }) =>
      !(field === "vendorId" && vendorId !== UNKNOWN_ID) &&
      !(field === "deviceId" && deviceId !== UNKNOWN_ID),
  );
  for (const bar of bars) {
    const field = `bars[${bar.index}].sizeBytes`;
    if (bar.sizeBytes === null && !unknown.some((entry) => entry.field === field)) {
      unknown.push(unknownField(field));
    }
  }
  return { ...fn, vendorId, deviceId, bars, physicalFunction: physical.bdf, unknown };
}

/**
 * Gives each virtual function its physical one. `functions` are sorted by BDF; so is the result.
 * A function whose name says that it is virtual and that no SR-IOV capability explains is reported.
 */
export function attachVirtualFunctions(
  functions: readonly PciFunction[],
  warnings: string[],
): PciFunction[] {
  const result = [...functions];
  const owners = functions.filter(({ sriov }) => sriov?.vfEnable === true && sriov.numVfs > 0);
  const position = new Map<Bdf, number>();
  if (owners.length > 0) for (let i = 0; i < result.length; i++) position.set(result[i].bdf, i);
  for (const physical of owners) {
    const at = position.get(physical.bdf) as number;
    const sriov = physical.sriov as SriovFacts;
    const found: [number, number][] = [];
    for (let n = 0; n < sriov.numVfs; n++) {
      const bdf = virtualFunctionBdf(physical.bdf, sriov, n);
      if (bdf === null) break;
      const index = position.get(bdf);
      if (index !== undefined && index !== at) found.push([n, index]);
    }
    const learnt = learnSizes(
      sriov,
      found.map(([, i]) => functions[i] as PciFunction),
    );
    for (const [n, index] of found) {
      result[index] = asVirtual(functions[index] as PciFunction, physical, learnt, n);
    }
    result[at] = { ...physical, sriov: learnt, unknown: stillUnknown(physical, learnt) };
  }
  const orphans = result.filter(
    ({ physicalFunction, deviceName }) =>
      physicalFunction === null && deviceName?.includes("Virtual Function") === true,
  );
  if (orphans.length > 0) {
    const first = formatBdf((orphans[0] as PciFunction).bdf);
    warnings.push(`${orphans.length} virtual functions have no physical one here, first ${first}`);
  }
  return result;
}

function stillUnknown(physical: PciFunction, sriov: SriovFacts): PciFunction["unknown"] {
  return physical.unknown.filter(({ field }) => {
    const bar = /^sriov\.bars\[(\d)\]\.sizeBytes$/.exec(field);
    if (bar === null) return true;
    const index = Number(bar[1]);
    return sriov.bars.find((entry) => entry.index === index)?.sizeBytes === null;
  });
}
