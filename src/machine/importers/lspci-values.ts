/**
 * Values as lspci prints them: sizes, addresses, BAR lines, bridge windows. Pure, and tolerant:
 * what is no such value is null.
 *
 * Invariant: no pattern here backtracks beyond its line, whatever the input.
 */

import { isAddress } from "../../core/index.ts";
import type { Bar, Window } from "../snapshot.ts";

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
  P: 2 ** 50,
};

/** `[size=128G]`, `current size: 128GB`, `64MB`; null for anything that is no power of two. */
export function parseSizeText(text: string): number | null {
  const match = /^(\d{1,15})([KMGTP]?)B?$/.exec(text);
  if (match === null) return null;
  const bytes = Number(match[1]) * (SIZE_UNITS[match[2] as string] as number);
  return isAddress(bytes) && bytes > 0 && Number.isInteger(Math.log2(bytes)) ? bytes : null;
}

/** A hexadecimal address as lspci prints it; null beyond what an address may be. */
export function parseAddress(text: string): number | null {
  if (!/^[0-9a-f]{1,16}$/i.test(text)) return null;
  const value = Number.parseInt(text, 16);
  return isAddress(value) ? value : null;
}

const isDigit = (code: number): boolean => code >= 48 && code <= 57;

/**
 * The first decimal number that stands between these two texts; null without one. No pattern: each
 * would be compiled for the few texts of a dump.
 */
export function numberAfter(text: string, before: string, after = ""): number | null {
  for (let at = text.indexOf(before); at >= 0; at = text.indexOf(before, at + 1)) {
    const start = at + before.length;
    let end = start;
    while (end < text.length && isDigit(text.charCodeAt(end))) end++;
    if (end > start && text.startsWith(after, end)) return Number(text.slice(start, end));
  }
  return null;
}

/** `[disabled]` and addresses that are none. */
const NO_ADDRESS = /<(?:ignored|unassigned|broken-64-bit-slot|invalid[^>]*|access denied)>/;
const MEMORY_BAR = /Memory at (\S+) \((32-bit|64-bit|low-1M), (non-prefetchable|prefetchable)\)/;
const IO_BAR = /I\/O ports at (\S+)/;

/**
 * One `Region n:` line (or, at -v, the same without a number).
 * @returns null when the line is none
 */
export function parseBarLine(text: string, index: number): Bar | null {
  const memory = MEMORY_BAR.exec(text);
  const io = memory === null ? IO_BAR.exec(text) : null;
  const found = memory ?? io;
  // `Memory at <unassigned>` has no type, so there is nothing to keep.
  if (found === null) return null;
  const address = NO_ADDRESS.test(found[1] as string) ? 0 : (parseAddress(found[1] as string) ?? 0);
  const size = /\[size=(\d+[KMGTP]?)\]/.exec(text);
  return {
    index,
    kind: memory === null ? "io" : memory[2] === "64-bit" ? "memory64" : "memory32",
    prefetchable: memory?.[3] === "prefetchable",
    address,
    sizeBytes: size === null ? null : parseSizeText(size[1] as string),
    // A virtual region is one that the system knows and the register does not hold.
    enabled: address !== 0 && !/\[(?:disabled|virtual)\]/.test(text),
  };
}

/** `fe600000-fe9fffff [size=4M]`, `None`, `[disabled]`, `0000f000-00000fff [empty]`. */
export function parseWindow(text: string | null): Window | null {
  if (text === null) return null;
  const match = /^([0-9a-f]+)-([0-9a-f]+)/i.exec(text);
  if (match === null || /\[(?:disabled|empty)\]/.test(text)) return null;
  const base = parseAddress(match[1] as string);
  const limit = parseAddress(match[2] as string);
  return base === null || limit === null || base > limit ? null : { base, limit };
}
