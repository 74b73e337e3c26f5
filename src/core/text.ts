/**
 * Numbers and tables for people: sizes, counts, aligned columns. Colours are injected, so that text
 * without a terminal is plain; widths ignore them.
 */

/** What the renderer paints with; the command line gives terminal colours, tests identity. */
export interface Paint {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly name: (text: string) => string;
}

const same = (text: string): string => text;
export const PLAIN: Paint = {
  bold: same,
  dim: same,
  good: same,
  bad: same,
  warn: same,
  name: same,
};

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `0 B`, `512 B`, `64 MiB`, `1.5 GiB`: at most one decimal, and only where it is not zero. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const text = value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
  return `${text} ${UNITS[unit]}`;
}

const UNIT_LETTERS = "KMGTP";

/**
 * Bytes of `4096`, `64K`, `256 MiB`, `1.5g`; units are powers of 1024. Null for what is no size: a
 * fraction of a byte, zero, more than 2^52.
 */
export function parseSize(text: string): number | null {
  const match = /^\s*(\d{1,16}(?:\.\d{1,3})?)\s*(?:([kmgtp])(?:i?b)?|b)?\s*$/i.exec(text);
  if (match === null) return null;
  const power = UNIT_LETTERS.indexOf(match[2]?.toUpperCase() ?? "-") + 1;
  const size = Number(match[1]) * 1024 ** power;
  return Number.isInteger(size) && size > 0 && size <= 2 ** 52 ? size : null;
}

/** `1,048,576`. */
export function formatCount(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: matches terminal escape sequences.
const ESCAPES = /\u001b\[[0-9;]*m/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: matches terminal escape sequences.
const ESCAPE = /(\u001b\[[0-9;]*m)/;

/** Columns that a text takes on a terminal: its characters, of which some are two code units. */
export function widthOf(text: string): number {
  const plain = text.includes("\u001b") ? text.replace(ESCAPES, "") : text;
  let width = plain.length;
  for (let i = 0; i < plain.length - 1; i++) {
    const isPair = isHighSurrogate(plain.charCodeAt(i)) && isLowSurrogate(plain.charCodeAt(i + 1));
    if (isPair) width--;
  }
  return width;
}

const isHighSurrogate = (code: number): boolean => code >= 0xd800 && code < 0xdc00;
const isLowSurrogate = (code: number): boolean => code >= 0xdc00 && code < 0xe000;

export const padEnd = (text: string, width: number): string =>
  text + " ".repeat(Math.max(0, width - widthOf(text)));

export const padStart = (text: string, width: number): string =>
  " ".repeat(Math.max(0, width - widthOf(text))) + text;

/** Cuts a line to `width` columns, with an ellipsis where something is left out; colours end. */
export function cutTo(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let cut = "";
  let columns = 0;
  for (const part of text.split(ESCAPE)) {
    if (part.charCodeAt(0) === 0x1b) {
      cut += part;
      continue;
    }
    for (const character of part) {
      columns++;
      if (columns < width) cut += character;
      if (columns === width) cut += "…";
    }
  }
  return cut;
}

/** Rows of cells as lines, columns aligned: to the left, or to the right where `right` says so. */
export function alignColumns(
  rows: readonly (readonly string[])[],
  right: readonly boolean[] = [],
): string[] {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...rows.map((row) => widthOf(row[i] ?? ""))),
  );
  return rows.map((row) =>
    row
      .map((cell, i) => {
        const width = widths[i] as number;
        return right[i] === true ? padStart(cell, width) : padEnd(cell, width);
      })
      .join("  ")
      .trimEnd(),
  );
}

/** A last cell that has less room than this beside the others goes below them. */
const LAST_CELL_COLUMNS = 30;

/**
 * Rows of cells as aligned lines of at most `columns`, as far as words allow: the last cell wraps
 * beside the others where there is room for it, below them where there is none.
 */
export function alignWithin(rows: readonly (readonly string[])[], columns: number): string[] {
  const whole = alignColumns(rows);
  if (whole.every((line) => widthOf(line) <= columns)) return whole;
  const last = Math.max(...rows.map((row) => row.length)) - 1;
  const heads = alignColumns(rows.map((row) => row.slice(0, last)));
  const room = Math.max(...heads.map(widthOf)) + 2;
  const isBeside = columns - room >= LAST_CELL_COLUMNS;
  const hang = " ".repeat(isBeside ? room : 4);
  return whole.flatMap((line, i) => {
    const cell = rows[i]?.[last] ?? "";
    if (widthOf(line) <= columns || cell === "") return [line];
    const parts = wrap(cell, columns - hang.length).map((part) => hang + part);
    if (!isBeside) return [heads[i] as string, ...parts];
    return [padEnd(heads[i] as string, room) + (parts[0] as string).slice(room), ...parts.slice(1)];
  });
}

/** Wraps words to `width` columns. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  if (line !== "") lines.push(line);
  return lines;
}
