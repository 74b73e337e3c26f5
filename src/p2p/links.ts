/**
 * Payload rate of the link above a function, for ranking providers: lanes times lane rate after
 * line coding (PCIe Base 6.x section 4.2). It ranks; the model of what a transfer really gets is
 * elsewhere.
 *
 * Leaves out: header and flow-control overhead, FLIT mode's.
 */

import { type PciFunction, PortType } from "../machine/index.ts";

/** Bytes per second of one lane after 8b/10b (to generation 2), 128b/130b, and FLIT mode (6). */
const LANE_RATE: readonly number[] = [
  Number.NaN,
  (2.5e9 * 8) / 10 / 8,
  (5e9 * 8) / 10 / 8,
  (8e9 * 128) / 130 / 8,
  (16e9 * 128) / 130 / 8,
  (32e9 * 128) / 130 / 8,
  (64e9 * 242) / 256 / 8,
];

/** Infinity for functions with no link above them (root ports, downstream ports, conventional). */
export function linkBytesPerSecond({ pcie }: PciFunction): number {
  if (pcie === null || pcie.link === null) return Number.POSITIVE_INFINITY;
  const { portType, link } = pcie;
  const isBelowLink =
    portType === PortType.endpoint ||
    portType === PortType.legacyEndpoint ||
    portType === PortType.switchUpstream ||
    portType === PortType.pcieToPciBridge;
  const rate = LANE_RATE[link.generation];
  // A link that is down, or of a generation that is not in the table, does not rank.
  if (!isBelowLink || rate === undefined || Number.isNaN(rate) || link.width === 0) {
    return Number.POSITIVE_INFINITY;
  }
  return rate * link.width;
}
