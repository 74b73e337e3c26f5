/**
 * Which IOMMU mode a machine has, and how one knows. A dump without the host's boot log seldom
 * says; yet Linux makes IOMMU groups only where there is an IOMMU, and lspci -v prints them. Taking
 * such a machine as one without would let addresses pass that fault.
 */

import { formatBdf } from "../core/index.ts";
import type { IommuMode, Machine } from "../machine/index.ts";

export interface IommuState {
  readonly mode: IommuMode;
  /** True when the dump names the mode. */
  readonly isKnown: boolean;
  /** On what grounds, where it does not. */
  readonly grounds: string | null;
}

export function iommuOf({ host, functions }: Machine): IommuState {
  if (host.iommu !== null) return { mode: host.iommu, isKnown: true, grounds: null };
  const grouped = functions.find(({ iommuGroup }) => iommuGroup !== null);
  if (grouped === undefined) {
    return { mode: "off", isKnown: false, grounds: "not in the dump: taken as off" };
  }
  const grounds =
    `group ${grouped.iommuGroup} of ${formatBdf(grouped.bdf)} tells that there is one; its mode ` +
    "is not in the dump: taken as strict";
  // What Linux does unless its configuration or command line says otherwise.
  return { mode: "strict", isKnown: false, grounds };
}
