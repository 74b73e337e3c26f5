/** An explanation as plain data for `--json`: names as text, addresses in hex, nothing left out. */

import { type Bdf, formatBdf, hex } from "../core/index.ts";
import type { Hop } from "../fabric/index.ts";
import type { PciFunction } from "../machine/index.ts";
import { formatVersion, type Verdict } from "../p2p/index.ts";
import type { DirectionAnswer } from "./answer.ts";
import type { PairExplanation } from "./explain.ts";
import { kindName } from "./interest.ts";

type Json = Record<string, unknown>;

const name = (bdf: Bdf | null): string | null => (bdf === null ? null : formatBdf(bdf));

export function explanationJson(explanation: PairExplanation): Json {
  const { bar, rules, iommu, permitted, address } = explanation;
  return {
    machine: explanation.machine.name,
    kernel: formatVersion(rules.version),
    iommu: { mode: iommu.mode, known: iommu.isKnown },
    initiator: functionJson(explanation.initiator),
    owner: functionJson(explanation.owner),
    bar: bar === null ? null : { ...bar, address: hex(bar.address) },
    answer: explanation.answer,
    permitted: verdictJson(permitted),
    directions: Object.fromEntries(
      explanation.directions.map((answer) => [answer.direction, directionJson(answer)]),
    ),
    address:
      address === null
        ? null
        : { ...address, address: address.address === null ? null : hex(address.address) },
    iommuModes: explanation.modes,
    acs: explanation.acs.map((entry) => ({ ...entry, bdf: name(entry.bdf) })),
    devices: explanation.devices.map(({ id, text, source }) => ({ id, text, source })),
    remedies: explanation.remedies,
    gates: explanation.gates,
    depends: explanation.depends,
    notes: explanation.notes,
  };
}

const functionJson = (fn: PciFunction): Json => ({
  bdf: formatBdf(fn.bdf),
  kind: kindName(fn),
  vendor: fn.vendorName,
  device: fn.deviceName,
});

/** A verdict with names as text; remedies are given apart, verified. */
export function verdictJson(verdict: Verdict): Json {
  const { remedies: _unverified, ...rest } = verdict;
  return {
    ...rest,
    provider: name(verdict.provider),
    client: name(verdict.client),
    hop: name(verdict.hop),
    evidence: verdict.evidence.map((entry) => ({ ...entry, bdf: name(entry.bdf) })),
  };
}

function directionJson({
  permitted,
  route,
  reachesRoot,
  proven,
  bandwidth,
}: DirectionAnswer): Json {
  const narrowest = bandwidth?.narrowest ?? null;
  return {
    permitted: verdictJson(permitted),
    routable: {
      outcome: route?.statusName ?? null,
      target: route?.target == null ? null : { ...route.target, bdf: name(route.target.bdf) },
      reachesRootComplex: reachesRoot,
      hops: (route?.hops ?? []).map(hopJson),
      completionHops: (route?.completionHops ?? []).map(hopJson),
    },
    proven: {
      outcome: proven.outcome,
      text: proven.text,
      fact: proven.fact?.id ?? null,
      source: proven.fact?.source ?? null,
      strength: proven.fact?.strength ?? null,
    },
    bandwidth:
      narrowest === null
        ? null
        : {
            bytesPerSecond: narrowest.bytesPerSecond,
            narrowest: { ...narrowest, upper: name(narrowest.upper) },
            maxPayload: bandwidth?.maxPayload,
            maxReadRequest: bandwidth?.maxReadRequest,
          },
  };
}

const hopJson = (hop: Hop): Json => ({
  ...hop,
  bdf: name(hop.bdf),
  address: hex(hop.address),
  link: hop.link === null ? null : { ...hop.link, upper: name(hop.link.upper) },
});
