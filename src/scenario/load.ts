/** Reads a scenario file: YAML, checked against the schema. */

import { type Scenario, scenarioSchema } from "./schema.ts";
import { YamlSource } from "./yaml-source.ts";

const KIND = {
  code: "bad-scenario",
  what: "a scenario",
  remedy: "docs/guide/scenarios.md lists every key with its values",
};

/** Parses and validates scenario text. Throws `UsageError` `bad-scenario` with line and column. */
export function parseScenario(text: string, fileName: string): Scenario {
  return new YamlSource(text, fileName, KIND).check(scenarioSchema);
}
