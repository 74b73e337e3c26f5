/** The parts of an explanation that say what to do: which address to use, and what fixes it. */

import { alignWithin, wrap } from "../core/index.ts";
import type { PairExplanation } from "./explain.ts";
import type { Page } from "./page.ts";
import type { AddressForm } from "./probe.ts";

const FORMS: Readonly<Record<AddressForm, string>> = {
  bus: "bus address",
  physical: "physical address",
  iova: "IOVA",
};

/** Which address, and what each IOMMU mode would mean. */
export function addressLines(explanation: PairExplanation, paint: Page): string[] {
  const { address, modes, permitted, iommu, acs } = explanation;
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
  const lines = alignWithin(rows, paint.columns - 2).map((line) => `  ${line}`);
  // With an IOMMU Linux would not leave ACS as it is here.
  const asNow =
    "with ACS as it is now; Linux sets it when there is an IOMMU: --iommu strict shows that";
  const note = iommu.mode === "off" && acs.length > 0 ? wrap(asNow, paint.prose - 2) : [];
  return [...wrap(head, paint.prose), ...lines, ...note.map((line) => `  ${paint.dim(line)}`)];
}

const SAFETY_GATE =
  "The kernel's list is a safety gate: patching this host bridge into it makes the root complex " +
  "forward no better than now; whoever tries must compare the data at its owner's side.";

/** Remedies in order, then gates that are closed. */
export function remedyLines(explanation: PairExplanation, paint: Page): string[] {
  const { permitted, remedies, gates } = explanation;
  const lines: string[] = [];
  if (permitted.route === "none" && remedies.length === 0 && gates.length === 0) {
    const none = "No single change that is known here makes it possible: pass through host memory.";
    const isUnlisted = permitted.reason.endsWith("-unlisted");
    return wrap(isUnlisted ? `${none} ${SAFETY_GATE}` : none, paint.prose);
  }
  if (permitted.route === "host-bridge" && remedies.length > 0) {
    lines.push(paint.dim("it is permitted; this would make it direct:"));
  }
  remedies.forEach((remedy, i) => {
    const { text, command, weakensIsolation, caution, after } = remedy;
    const mark = weakensIsolation ? paint.warn(" Weakens isolation.") : "";
    const [first, ...more] = wrap(`${text}${mark}`, paint.prose - 3);
    lines.push(`${paint.bold(`${i + 1}.`)} ${first}`, ...more.map((line) => `   ${line}`));
    if (command !== null) lines.push(`   ${paint.name(command)}`);
    const then = `${after.mapType}, distance ${after.distance}`;
    const but = caution === null ? "" : `; ${caution}`;
    const effect = wrap(`${paint.good("verified")}: then ${then}${but}`, paint.prose - 3);
    lines.push(...effect.map((line) => `   ${line}`));
  });
  const opening = gates.flatMap(({ text, command }, i) => {
    const [first, ...more] = wrap(text, paint.prose - 3);
    const rest = more.map((line) => `   ${line}`);
    return [`${paint.bold(`${i + 1}.`)} ${first}`, ...rest, `   ${paint.name(command)}`];
  });
  const what =
    permitted.route === "none"
      ? "and for the requests to arrive, all of these (no kernel rule looks at them)"
      : "it is permitted; for the requests to arrive, all of these (verified together)";
  return [
    ...(lines.length === 0 ? [] : [paint.bold("remedies, least change first"), ...lines]),
    ...(opening.length === 0 ? [] : [paint.bold(what), ...opening]),
  ];
}
