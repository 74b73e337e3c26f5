/**
 * Golden text: what a command of the guest printed, kept in `golden/`, compared after what changes
 * from run to run was replaced. `npm run test:kernel -- -u` writes it anew.
 */
import { join } from "node:path";
import { expect } from "vitest";

/** Ports and addresses of this run, then whatever the caller knows. */
export type Replacements = readonly (readonly [pattern: RegExp | string, by: string])[];

export function normalise(text: string, replacements: Replacements): string {
  let result = text.replaceAll("\r", "");
  for (const [pattern, by] of replacements) result = result.replaceAll(pattern, by);
  return `${result.replace(/[ \t]+$/gm, "").trimEnd()}\n`;
}

export async function expectGolden(
  name: string,
  text: string,
  replacements: Replacements = [],
): Promise<void> {
  const path = join(import.meta.dirname, "golden", `${name}.txt`);
  await expect(normalise(text, replacements)).toMatchFileSnapshot(path);
}
