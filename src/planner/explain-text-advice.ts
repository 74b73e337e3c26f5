/** The parts of an explanation that say what to do: which address to use, and what fixes it. */

import { alignColumns, type Paint, wrap } from "../core/index.ts";
import type { PairExplanation } from "./explain.ts";
import type { AddressForm } from "./probe.ts";

const TEXT_COLUMNS = 100;

const FORMS: Readonly<Record<AddressForm, string>> = {
  bus: "bus address",
  physical: "physical address",
  iova: "IOVA",
};

/** Which address, and what each IOMMU mode would mean. */
export function addressLines({ address, modes, permitted, iommu }: PairExplanation, paint: Paint) {
  if (address === null) return [];
  const isRefused = permitted.route === "none";
  const head = isRefused
    ? `${paint.bold("address")}  none is given for a refused pair; what a request would do:`
    : `${paint.bold("address")}  use ${address.text}.`;
  const rows = modes.map(({ mode, form, outcome, wrongForm, wrongOutcome }) => [
    mode === iommu.mode ? paint.bold(`IOMMU ${mode}`) : `IOMMU ${mode}`,
    `${FORMS[form]}:`,
    outcome,
    wrongForm === null ? "" : paint.dim(`${FORMS[wrongForm]} instead: ${wrongOutcome}`),
  ]);
  return [...wrap(head, TEXT_COLUMNS), ...alignColumns(rows).map((line) => `  ${line}`)];
}

/** Remedies in order, then gates that are closed. */
export function remedyLines(explanation: PairExplanation, paint: Paint): string[] {
  const { permitted, remedies, gates } = explanation;
  const lines: string[] = [];
  if (permitted.route === "none" && remedies.length === 0 && gates.length === 0) {
    return ["No single change that is known here makes it possible: pass through host memory."];
  }
  if (permitted.route === "host-bridge" && remedies.length > 0) {
    lines.push(paint.dim("it is permitted; this would make it direct:"));
  }
  remedies.forEach((remedy, i) => {
    const { text, command, weakensIsolation, caution, after } = remedy;
    const mark = weakensIsolation ? paint.warn(" Weakens isolation.") : "";
    const [first, ...more] = wrap(`${text}${mark}`, TEXT_COLUMNS - 3);
    lines.push(`${paint.bold(`${i + 1}.`)} ${first}`, ...more.map((line) => `   ${line}`));
    if (command !== null) lines.push(`   ${paint.name(command)}`);
    const then = `${after.mapType}, distance ${after.distance}`;
    const but = caution === null ? "" : `; ${caution}`;
    const effect = wrap(`${paint.good("verified")}: then ${then}${but}`, TEXT_COLUMNS - 3);
    lines.push(...effect.map((line) => `   ${line}`));
  });
  for (const { text, command } of gates) {
    lines.push(`${paint.bad("gate")} ${text}`, `   ${paint.name(command)}`);
  }
  return lines.length === 0 ? [] : [paint.bold("remedies, least change first"), ...lines];
}
