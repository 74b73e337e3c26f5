/** docs/rules.md is what the rules' data says. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { HOST_BRIDGE_LIST, RULE_SETS, rulesMarkdown } from "../src/p2p/index.ts";

it("docs/rules.md is as generated (else: npm run docs:rules)", () => {
  const committed = readFileSync(new URL("../docs/rules.md", import.meta.url), "utf8");
  expect(committed).toBe(rulesMarkdown());
});

it("the page names every rule set, every rule with a source, every host bridge", () => {
  const page = rulesMarkdown();
  for (const { id, rules } of RULE_SETS) {
    expect(page).toContain(`\`${id}\``);
    for (const { source } of rules) expect(page).toContain(source);
  }
  expect(page.match(/^\| `[0-9a-f]{4}:(any|[0-9a-f]{4})`/gm)).toHaveLength(HOST_BRIDGE_LIST.length);
});
