/**
 * The reader of `machine.json` for whoever has loaded everything anyway. A file of its own, so that
 * the room's door does not lead straight to the schema: commands that only pass through the door
 * then load without it (scripts/build.mjs cuts them apart, and follows files that re-export).
 */

import { parseMachineJson as parse } from "./machine-json.ts";
import type { Machine } from "./snapshot.ts";

/** See machine-json.ts. */
export function parseMachineJson(source: string, file: string): Machine {
  return parse(source, file);
}
