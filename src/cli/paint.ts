/** The meanings that reports paint with, in terminal colours. */

import type { Paint } from "../core/index.ts";
import type { Context } from "./context.ts";

export function makePaint(colors: Context["colors"]): Paint {
  return {
    bold: colors.bold,
    dim: colors.dim,
    good: colors.green,
    bad: colors.red,
    warn: colors.yellow,
    name: colors.cyan,
  };
}
