/**
 * Evidence and remedies for ports that redirect peer traffic by ACS, shared by the rule sets of all
 * kernels.
 */

import { formatBdf, hex } from "../../core/index.ts";
import { ACS_CONTROL_OFFSET, ACS_REDIRECT, Acs, type Topology } from "../topology.ts";
import type { Evidence, Remedy } from "./types.ts";

const ACS_NAMES: readonly (readonly [string, number])[] = [
  ["SrcValid", Acs.SV],
  ["TransBlk", Acs.TB],
  ["ReqRedir", Acs.RR],
  ["CmpltRedir", Acs.CR],
  ["UpstreamFwd", Acs.UF],
  ["EgressCtrl", Acs.EC],
  ["DirectTrans", Acs.DT],
];

/** `ReqRedir+ CmpltRedir-`: the bits of an ACS word, in lspci's words. */
export function formatAcs(word: number): string {
  return ACS_NAMES.map(([name, bit]) => `${name}${(word & bit) === 0 ? "-" : "+"}`).join(" ");
}

/** ACS Control of each of these nodes. */
export function explainRedirects(topology: Topology, nodes: readonly number[]): Evidence[] {
  return nodes.map((node) => {
    const { bdf, acs } = topology.functions[node];
    return {
      bdf,
      register: "ACS Control",
      offset: acs === null ? null : acs.offset + ACS_CONTROL_OFFSET,
      value: topology.acsControl[node],
      decoded: formatAcs(topology.acsControl[node]),
    };
  });
}

/** Two ways to clear the redirection, both at the price of isolation. */
export function redirectRemedies(topology: Topology, nodes: readonly number[]): Remedy[] {
  const names = nodes.map((node) => formatBdf(topology.bdfOf(node)));
  const isolation = "functions below it share an IOMMU group from then on";
  return [
    {
      kind: "kernel-parameter",
      text: `Boot with the redirection off at ${names.join(", ")} (${isolation}).`,
      command: `pci=disable_acs_redir=${names.join(";")}`,
      weakensIsolation: true,
    },
    {
      kind: "register-write",
      text: "Clear RR, CR and EC until the next reset (isolation is lost, groups stay).",
      command: names
        .map(
          (name) =>
            `setpci -s ${name} ECAP_ACS+${ACS_CONTROL_OFFSET}.w=0:${hex(ACS_REDIRECT).slice(2)}`,
        )
        .join(" && "),
      weakensIsolation: true,
    },
  ];
}
