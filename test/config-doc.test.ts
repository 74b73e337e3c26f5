/** docs/guide/target-config.md is what the schema says. */

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { targetConfigDoc } from "../src/scenario/index.ts";

it("docs/guide/target-config.md is as generated (else: npm run docs:config)", () => {
  const committed = readFileSync(
    new URL("../docs/guide/target-config.md", import.meta.url),
    "utf8",
  );
  expect(committed).toBe(targetConfigDoc());
});
