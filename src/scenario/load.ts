/** Reads a scenario file of any kind: YAML, checked against the schema of its kind. */

import { GPU_KINDS, type GpuScenario, gdsSchema, gpuRdmaSchema } from "./gpu/schema.ts";
import { type Scenario, scenarioSchema } from "./schema.ts";
import { YamlSource } from "./yaml-source.ts";

const KIND = {
  code: "bad-scenario",
  what: "a scenario",
  remedy: "docs/guide/scenarios.md and docs/guide/gpu-memory.md list every key with its values",
};

/** A scenario of any kind. */
export type AnyScenario = Scenario | GpuScenario;

/**
 * Parses and validates scenario text. Throws `UsageError` `bad-scenario` with line and column. An
 * unknown kind is the first schema's to refuse.
 */
export function parseScenario(text: string, fileName: string): AnyScenario {
  const source = new YamlSource(text, fileName, KIND);
  const plain = source.plain();
  const kind = typeof plain === "object" && plain !== null ? (plain as { kind?: unknown }).kind : 0;
  if (kind === GPU_KINDS[0]) return source.check(gdsSchema, plain);
  if (kind === GPU_KINDS[1]) return source.check(gpuRdmaSchema, plain);
  return source.check(scenarioSchema, plain);
}
