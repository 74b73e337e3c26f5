/** Scenario: what to run, as data; the runner; its report. */

export { Capture, type CaptureEvent, type CaptureOptions } from "./capture/capture.ts";
export type { CaptureSettings, RecordingParts } from "./capture/recording.ts";
export * from "./compare/index.ts";
export {
  discover,
  type RemoteOptions,
  RemoteSubsystem,
} from "./connect.ts";
export { type AnyScenario, parseScenario } from "./load.ts";
export type { RunContext } from "./measure.ts";
export type { BenchResult } from "./read-load.ts";
export { type RenderOptions, renderScenario } from "./render.ts";
export * from "./report.ts";
export { runScenario } from "./runner.ts";
export { type Scenario, scenarioSchema } from "./schema.ts";
export { type ServeOptions, TargetServer } from "./serve.ts";
export * from "./target/index.ts";
