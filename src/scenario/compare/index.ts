/** Five descriptions of I/O memory over one workload: the report and its forms. */

export type { Cell, Outcome } from "./cell.ts";
export * from "./compare.ts";
export {
  type CompareDescription,
  DESCRIPTIONS,
  type Handle,
  openDescription,
} from "./descriptions.ts";
export type { IoCost } from "./io-cost.ts";
export { IoLoop } from "./io-loop.hot.ts";
export { measureRegistration, type RegistrationRow } from "./registration.ts";
export { compareCsv, compareMarkdown, renderCompare } from "./render.ts";
export { compareHtml } from "./render-html.ts";
export { type CompareSetup, type CompareSubject, chooseSubject, setUp } from "./setup.ts";
export { StackSetup } from "./stack-setup.ts";
export {
  COMPARE_WORKLOADS,
  type CompareWorkload,
  DEFAULT_WORKLOAD,
  parseWorkload,
} from "./workload.ts";
