/**
 * Finds `nvidia-smi topo -m` among the files that a user gave as the machine: it makes no machine,
 * but people give it beside a dump, to be compared.
 */

import { PeerlaneError } from "../core/index.ts";
import { isNvsmiTopo } from "../machine/index.ts";
import type { Context } from "./context.ts";

/** The largest has 8 GPUs and 20 NICs: some 10 KiB. */
const NVSMI_BYTES_MAX = 64 * 1024;

export interface Given {
  readonly dumps: readonly string[];
  readonly nvsmi: string | undefined;
}

export async function withoutNvsmi(context: Context, paths: readonly string[]): Promise<Given> {
  if (paths.length < 2) return { dumps: paths, nvsmi: undefined };
  const dumps: string[] = [];
  let nvsmi: string | undefined;
  for (const path of paths) {
    if (path !== "-" && nvsmi === undefined && (await holdsNvsmi(context, path))) nvsmi = path;
    else dumps.push(path);
  }
  return { dumps, nvsmi };
}

/** What cannot be read here is for whoever reads the machine to complain about. */
async function holdsNvsmi(context: Context, path: string): Promise<boolean> {
  try {
    return isNvsmiTopo(await context.files.readText(path, NVSMI_BYTES_MAX));
  } catch (error) {
    if (error instanceof PeerlaneError) return false;
    throw error;
  }
}
