/**
 * What a report is written on: the colours, and how wide lines may be. A pipe has no width: tables
 * keep one row on one line there, for grep; sentences wrap all the same.
 */

import { type Paint, PLAIN } from "../core/index.ts";

export interface Page extends Paint {
  /** Columns of the terminal; infinite for a pipe. */
  readonly columns: number;
  /** Columns of sentences. */
  readonly prose: number;
}

const PROSE_COLUMNS = 100;

/** In lines to paste, where it is not known how the machine was given. */
export const FILE_TO_BE_NAMED = "-m FILE";

export function pageOf(paint: Paint = PLAIN, columns = Number.POSITIVE_INFINITY): Page {
  return { ...paint, columns, prose: Math.min(columns, PROSE_COLUMNS) };
}
