/** Scenario: what to run, as data; the runner; its report. */

export * from "./compare/index.ts";
export {
  type BenchResult,
  discover,
  type RemoteOptions,
  RemoteSubsystem,
} from "./connect.ts";
export { parseScenario } from "./load.ts";
export { type RenderOptions, renderScenario } from "./render.ts";
export * from "./report.ts";
export { type RunContext, runScenario } from "./runner.ts";
export { type Scenario, scenarioSchema } from "./schema.ts";
export { type ServeOptions, TargetServer } from "./serve.ts";
export * from "./target/index.ts";
