/**
 * The `p2pmem` setting of a namespace, in the syntax of Linux' nvmet configfs: `0` or `1` (or a
 * word for them), or the name of the function that provides the memory. As there, only the single
 * characters 0 and 1 are numbers, so that a mistyped `0000:1` is an error and not "off".
 */

import { type Bdf, formatBdf, tryParseBdf, UsageError } from "../core/index.ts";

/** Where a namespace's I/O buffers come from. */
export type P2pSetting =
  /** Host memory. */
  | { readonly kind: "off" }
  /** The best provider for the NIC and the namespace's devices. */
  | { readonly kind: "auto" }
  /** This provider or none. */
  | { readonly kind: "fixed"; readonly provider: Bdf };

const WORDS: Readonly<Record<string, "off" | "auto">> = {
  "0": "off",
  n: "off",
  no: "off",
  off: "off",
  false: "off",
  "1": "auto",
  y: "auto",
  yes: "auto",
  on: "auto",
  true: "auto",
  auto: "auto",
};

/** Parses a setting as a user typed it. Throws {@link UsageError} `bad-p2pmem`. */
export function parseP2pSetting(text: string): P2pSetting {
  const trimmed = text.trim();
  const word = WORDS[trimmed.toLowerCase()];
  if (word !== undefined) return { kind: word };
  const provider = tryParseBdf(trimmed);
  if (provider !== null) return { kind: "fixed", provider };
  throw new UsageError("bad-p2pmem", `"${text}" is not a setting of p2pmem`, {
    remedy: "write 0, 1, or the name of the function with the memory, as 0000:18:00.0",
  });
}

/** The setting as configfs would print it. */
export function formatP2pSetting(setting: P2pSetting): string {
  if (setting.kind === "fixed") return formatBdf(setting.provider);
  return setting.kind === "auto" ? "1" : "0";
}
