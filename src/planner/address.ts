/**
 * Which address the initiator must put into its requests, and what the wrong one would do. A switch
 * routes by bus address, whatever the IOMMU does; what goes up to the root complex must be an IOVA
 * where the IOMMU translates. Mixing them up is the commonest cause of IO_PAGE_FAULT and zeros.
 */

import { hex } from "../core/index.ts";
import type { RouteReport } from "../fabric/index.ts";
import type { IommuMode } from "../machine/index.ts";
import type { Verdict } from "../p2p/index.ts";
import type { AddressForm, PathProbe } from "./probe.ts";

export interface AddressAdvice {
  readonly form: AddressForm;
  /** The address of the BAR's first byte; null for an IOVA, which the mapping gives. */
  readonly address: number | null;
  readonly text: string;
}

/** The same pair under one IOMMU mode. */
export interface ModeEffect {
  readonly mode: IommuMode;
  readonly form: AddressForm;
  /** A write by the right address, and by the other one where there is another. */
  readonly outcome: string;
  readonly wrongForm: AddressForm | null;
  readonly wrongOutcome: string | null;
}

/** By map type, as the kernel's DMA layer does: a refused pair is taken as one through the root. */
export function formFor(verdict: Verdict, mode: IommuMode): AddressForm {
  if (verdict.route === "bus" || verdict.route === "self") return "bus";
  return mode === "strict" ? "iova" : "physical";
}

export function adviseAddress(probe: PathProbe, verdict: Verdict, mode: IommuMode): AddressAdvice {
  const form = formFor(verdict, mode);
  const address = form === "iova" ? null : probe.addressOf(form);
  return { form, address, text: TEXTS[form](address === null ? "" : ` ${hex(address)}`) };
}

const TEXTS: Readonly<Record<AddressForm, (address: string) => string>> = {
  bus: (address) =>
    `the BUS address${address}, also where an IOMMU translates: the request never ` +
    "reaches it, and " +
    "an IOVA would leave the switch upwards",
  physical: (address) =>
    `the CPU's PHYSICAL address${address}: the root complex decodes it, and no IOMMU translates it`,
  iova: () =>
    "an IOVA that the IOMMU maps to the BAR (the provider's memory mapped for this " +
    "initiator): the " +
    "request passes the IOMMU, which knows no bus addresses",
};

const MODES: readonly IommuMode[] = ["off", "passthrough", "strict"];

/** What each mode would mean for this pair, with ACS as it is now. */
export function modeEffects(probe: PathProbe, verdict: Verdict): ModeEffect[] {
  return MODES.map((mode) => {
    const form = formFor(verdict, mode);
    const wrong = otherForm(probe, form, mode);
    return {
      mode,
      form,
      outcome: outcomeText(probe.route(mode, form, "write")),
      wrongForm: wrong,
      wrongOutcome: wrong === null ? null : outcomeText(probe.route(mode, wrong, "write")),
    };
  });
}

/** The address that people use by mistake; null where it is the same number. */
function otherForm(probe: PathProbe, form: AddressForm, mode: IommuMode): AddressForm | null {
  if (form === "bus") {
    if (mode === "strict") return "iova";
    return probe.physical === probe.bar.address ? null : "physical";
  }
  if (form === "iova") return "bus";
  return probe.physical === probe.bar.address ? null : "bus";
}

/** `arrives, below the root complex`; `IOMMU fault`. */
export function outcomeText(route: RouteReport): string {
  const { target, statusName } = route;
  if (route.status !== 0) return statusName;
  const way = route.viaRootComplex ? "through the root complex" : "below the root complex";
  if (target?.kind === "host-memory") return "lands in HOST MEMORY, not in the peer";
  if (target?.kind === "interrupt") return "is taken for an interrupt";
  return `arrives, ${way}`;
}
