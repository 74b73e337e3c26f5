/** What a cell of the table "works with" says, and how a refusal becomes one. */

import { PeerlaneError } from "../../core/index.ts";
import type { CompareDescription } from "./descriptions.ts";

/** `no`: refused in the open. `unsafe`: it went on where it should not have. */
export type Outcome = "yes" | "partly" | "no" | "unsafe";

export interface Cell {
  readonly outcome: Outcome;
  /** How it failed, or what was seen. */
  readonly detail: string;
}

export interface WorksColumn {
  readonly name: string;
  readonly what: string;
  run(kind: CompareDescription): Promise<Cell>;
}

export const yes = (detail: string): Cell => ({ outcome: "yes", detail });
export const no = (detail: string): Cell => ({ outcome: "no", detail });

/** Runs `act`; what it refuses with an error becomes a cell. Broken invariants are thrown on. */
export async function cellOf(act: () => Cell | Promise<Cell>): Promise<Cell> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof PeerlaneError) return no(`refused: ${error.code}`);
    throw error;
  }
}
