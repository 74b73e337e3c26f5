/** What stands below the options in a command's help: examples that run, notes, exit statuses. */

import { wrap } from "../core/index.ts";

/** Of the narrowest terminal: commander does not wrap what is added. */
const HELP_COLUMNS = 80;

export interface HelpTail {
  /** What is typed behind `peerlane `, and what it does. */
  readonly examples: readonly (readonly [string, string])[];
  /** What 0 and 1 mean; 2 is wrong usage everywhere. */
  readonly exit: string;
  /** Sentences between the two. */
  readonly notes?: readonly string[];
}

export function helpTail({ examples, exit, notes = [] }: HelpTail): string {
  const lines = examples.flatMap(([args, what]) => [`  peerlane ${args}`, `      ${what}`]);
  const sentences = [...notes, `Exit status: ${exit}; 2 wrong usage.`];
  const below = sentences.flatMap((text) => ["", ...wrap(text, HELP_COLUMNS)]);
  return ["", "Examples:", ...lines, ...below].join("\n");
}
