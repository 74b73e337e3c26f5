/** Five descriptions of I/O memory over one workload: the report and its forms. */

export * from "./compare.ts";
export {
  type CompareDescription,
  DESCRIPTIONS,
  type Handle,
  openDescription,
} from "./descriptions.ts";
export { IO_BATCH, type IoCost, IoLoop } from "./io-cost.ts";
export { measureRegistration, type RegistrationRow } from "./registration.ts";
export { compareCsv, compareMarkdown, renderCompare } from "./render.ts";
export { type CompareSetup, type CompareSubject, chooseSubject, setUp } from "./setup.ts";
export type { Cell, Outcome } from "./works.ts";
