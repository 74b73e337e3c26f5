/**
 * Planner: answers for people who have a machine: its tree, who reaches whom, why not, what helps.
 */

export type { Answer, DirectionAnswer } from "./answer.ts";
export { diffJson, diffMachines, isSame, type MachineDiff } from "./diff.ts";
export { renderDiff } from "./diff-text.ts";
export { type DoctorReport, examine, type UseReport } from "./doctor/doctor.ts";
export { type CheckResult, type CheckState, USES, type Use } from "./doctor/subject.ts";
export { doctorJson, renderDoctor } from "./doctor-text.ts";
export {
  type ExplainOptions,
  explainPair,
  type PairExplanation,
} from "./explain.ts";
export { explanationJson } from "./explain-json.ts";
export { renderExplanation } from "./explain-text.ts";
export { type FindOptions, type FindReport, findProvider } from "./find.ts";
export { findJson, renderFind } from "./find-text.ts";
export { ALL_FACTS, type Fact, type Outcome, type Proven } from "./knowledge.ts";
export {
  type MatrixOptions,
  type MatrixReport,
  matrixCsv,
  matrixJson,
  matrixOf,
} from "./matrix.ts";
export { renderMatrix } from "./matrix-text.ts";
export { renderNvsmi } from "./nvsmi-text.ts";
export {
  type PagesReport,
  pagesOfMachine,
  pagesOfSize,
  parseAddress,
  sizeOf,
} from "./pages.ts";
export { pagesJson, renderPages } from "./pages-text.ts";
export { type AddressForm, type Direction, PathProbe, sharedBar } from "./probe.ts";
export { renderTopo, type TopoOptions } from "./topo.ts";
export {
  applyWhatIf,
  type Changed,
  parseWhatIf,
  type WhatIf,
  type WhatIfTexts,
} from "./what-if.ts";
