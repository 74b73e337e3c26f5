/**
 * Splits an lspci dump into one record per function: its header line, its lines of text, its hex
 * rows as bytes. What the text means is lspci-text.ts; what the bytes mean is config-facts.ts.
 *
 * Invariants: one pass, no regular expression on hex rows (4 MiB of them must take well under half
 * a second). Rows of a record are contiguous from 0 and complete, or the dump is refused with file,
 * line and reason: a dump that was cut or spliced is not half right.
 *
 * Noise is tolerated where it cannot be part of a record: lines before the first one, after a blank
 * line, and messages of lspci itself.
 */

import {
  type Bdf,
  hexDigits,
  MACHINE_FUNCTIONS_MAX,
  makeBdf,
  PeerlaneError,
} from "../../core/index.ts";
import { CONFIG_HEADER_BYTES, CONFIG_PCI_BYTES, CONFIG_PCIE_BYTES } from "../../spec/pcie/index.ts";

/** One function as the dump has it. */
export interface LspciRecord {
  readonly bdf: Bdf;
  /** 1-based line of the header. Counted when asked for: few records are ever asked. */
  readonly line: number;
  /** What follows the function's name on the header line. */
  readonly header: string;
  /**
   * Lines of text under the header, indented by tabs. Each stands between two line feeds, so that
   * one search finds the line that begins in some way; empty without lines.
   */
  readonly body: string;
  /** 64, 128, 256 or 4096 bytes; null without hex rows. */
  readonly config: Uint8Array | null;
}

export interface LspciRecords {
  readonly records: readonly LspciRecord[];
  /** Lines that belong to no record: how many, and the first. */
  readonly noise: { readonly count: number; readonly line: number; readonly text: string };
}

const TAB = 9;
const SPACE = 32;
const COLON = 58;
const ROW_BYTES = 16;
const NOISE_CHARS_MAX = 60;
/** Messages that lspci and libpci print to standard error, often into the same file. */
const MESSAGE = /^(?:lspci|pcilib|setpci): /;
/** Name of a function, then `class: name`; `key=value` after it is another tool's list. */
const HEADER = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7]) (?=[^:=]*:)/;
const REMEDY = "take the dump again as root: lspci -nnvvvxxxx > machine.txt";

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  if (code >= 97 && code <= 102) return code - 87;
  if (code >= 65 && code <= 70) return code - 55;
  return -1;
}

/** Digits before the colon of `00: `, `100: `; 0 when the line is no hex row. */
function rowDigits(text: string, start: number, end: number): number {
  for (let digits = 1; digits <= 3; digits++) {
    if (start + digits >= end || hexDigit(text.charCodeAt(start + digits - 1)) < 0) return 0;
    if (text.charCodeAt(start + digits) === COLON) {
      const after = start + digits + 1;
      return digits >= 2 && (after === end || text.charCodeAt(after) === SPACE) ? digits : 0;
    }
  }
  return 0;
}

/** What the rows of a record may hold. 128 bytes are what lspci -xx prints of a CardBus bridge. */
const WHOLE_BYTES = [0, CONFIG_HEADER_BYTES, 128, CONFIG_PCI_BYTES, CONFIG_PCIE_BYTES];

/** Counts lines up to a place, onwards from where it was asked last. */
class LineCounter {
  private readonly text: string;
  private offset = 0;
  private line = 1;

  constructor(text: string) {
    this.text = text;
  }

  /** 1-based. */
  at(offset: number): number {
    if (offset < this.offset) {
      this.offset = 0;
      this.line = 1;
    }
    for (;;) {
      const end = this.text.indexOf("\n", this.offset);
      if (end < 0 || end >= offset) return this.line;
      this.offset = end + 1;
      this.line++;
    }
  }
}

/** A record while its lines come in. */
class Draft implements LspciRecord {
  readonly bdf: Bdf;
  readonly header: string;
  body = "";
  config: Uint8Array | null = null;
  /** Bytes of its rows so far. */
  length = 0;
  private readonly lines: LineCounter;
  private readonly offset: number;

  constructor(bdf: Bdf, header: string, lines: LineCounter, offset: number) {
    this.bdf = bdf;
    this.header = header;
    this.lines = lines;
    this.offset = offset;
  }

  get line(): number {
    return this.lines.at(this.offset);
  }
}

class Splitter {
  private readonly text: string;
  private readonly file: string;
  private readonly lines: LineCounter;
  /** End of a line that no detail follows; tested, since a match of each would be garbage. */
  private readonly detailsEnd = /\n(?!\t)/g;
  private readonly records: LspciRecord[] = [];
  private noise = { count: 0, line: 0, text: "" };
  private readonly scratch = new Uint8Array(CONFIG_PCIE_BYTES);
  private draft: Draft | null = null;
  /** True after a blank line: what follows belongs to no record until the next header. */
  private closed = true;

  constructor(text: string, file: string) {
    // Line ends of Windows, and the one that a cut left at the end.
    this.text = text.includes("\r") ? text.replace(/\r(?=\n|$)/g, "") : text;
    this.file = file;
    this.lines = new LineCounter(this.text);
  }

  run(): LspciRecords {
    const text = this.text;
    let start = text.charCodeAt(0) === 0xfeff ? 1 : 0;
    while (start < text.length) {
      let end = text.indexOf("\n", start);
      if (end < 0) end = text.length;
      start = this.take(start, end);
    }
    this.finish(Math.max(text.length - 1, 0));
    return { records: this.records, noise: this.noise };
  }

  /** Takes the line at `start`, and the details under it; returns where the next one starts. */
  private take(start: number, end: number): number {
    const next = end + 1;
    if (start === end) {
      this.closed = true;
      return next;
    }
    const first = this.text.charCodeAt(start);
    if (first === TAB || first === SPACE) {
      this.takeDetail(start, end);
      return next;
    }
    const digits = rowDigits(this.text, start, end);
    if (digits > 0) {
      this.takeRow(start, end, digits);
      return next;
    }
    const content = this.text.slice(start, end);
    const match = hexDigit(first) < 0 ? null : HEADER.exec(content);
    if (match === null) {
      this.takeNoise(content, start);
      return next;
    }
    this.finish(start);
    return this.begin(match, content, start, end);
  }

  /** Begins a record and takes what stands under its header at once, as far as tabs go. */
  private begin(match: RegExpExecArray, content: string, start: number, end: number): number {
    const domain = match[1] === undefined ? 0 : Number.parseInt(match[1], 16);
    const device = Number.parseInt(match[3] as string, 16);
    if (device > 31) {
      this.refuse(start, "dump-malformed", `no PCI device has the number ${match[3]}`);
    }
    if (this.records.length >= MACHINE_FUNCTIONS_MAX) {
      this.refuse(start, "too-large", `more than ${MACHINE_FUNCTIONS_MAX} functions`);
    }
    const bus = Number.parseInt(match[2] as string, 16);
    const bdf = makeBdf(domain, bus, device, Number(match[4]));
    const draft = new Draft(bdf, content.slice(match[0].length).trim(), this.lines, start);
    this.draft = draft;
    this.closed = false;
    this.detailsEnd.lastIndex = end;
    const isEnded = this.detailsEnd.test(this.text);
    const next = isEnded ? this.detailsEnd.lastIndex : this.text.length;
    if (next > end + 1) draft.body = this.text.slice(end, next) + (isEnded ? "" : "\n");
    return next;
  }

  private takeDetail(start: number, end: number): void {
    const draft = this.draft;
    if (draft === null || this.closed) {
      this.takeNoise(this.text.slice(start, end), start);
      return;
    }
    if (draft.length > 0) {
      this.refuse(start, "dump-malformed", "text stands between rows of configuration space");
    }
    let text = this.text.slice(start, end);
    // Pasted dumps have each tab as eight spaces.
    if (text.charCodeAt(0) === SPACE) {
      text = text.replace(/^(?: {8})+/, (spaces) => "\t".repeat(spaces.length / 8));
    }
    if (text.charCodeAt(0) === TAB) draft.body += draft.body === "" ? `\n${text}\n` : `${text}\n`;
  }

  private takeRow(start: number, end: number, digits: number): void {
    const draft = this.draft;
    if (draft === null || this.closed) {
      this.refuse(start, "dump-malformed", "a row of configuration space belongs to no function");
    }
    const offset = Number.parseInt(this.text.slice(start, start + digits), 16);
    if (offset !== draft.length || offset % ROW_BYTES !== 0 || offset >= CONFIG_PCIE_BYTES) {
      const expected = hexDigits(draft.length, 2);
      const what = `row ${this.text.slice(start, start + digits)} where row ${expected} must be`;
      this.refuse(start, "dump-malformed", what);
    }
    let at = start + digits + 1;
    for (let i = 0; i < ROW_BYTES; i++, at += 3) {
      const high = at + 2 < end ? hexDigit(this.text.charCodeAt(at + 1)) : -1;
      const low = at + 2 < end ? hexDigit(this.text.charCodeAt(at + 2)) : -1;
      if (this.text.charCodeAt(at) !== SPACE || high < 0 || low < 0) {
        this.refuseRow(at, end, i);
      }
      this.scratch[offset + i] = high * 16 + low;
    }
    if (this.text.slice(at, end).trim() !== "") this.refuseRow(at, end, ROW_BYTES);
    draft.length += ROW_BYTES;
  }

  private refuseRow(at: number, end: number, bytes: number): never {
    const rest = this.text.slice(at, Math.min(end, at + 40)).trim();
    const code = rest === "" ? "dump-truncated" : "dump-malformed";
    const found = rest === "" ? "the line ends" : `there is "${rest}"`;
    this.refuse(end, code, `a row holds ${ROW_BYTES} bytes, but after ${bytes} of them ${found}`);
  }

  private takeNoise(text: string, start: number): void {
    const isMidRecord = this.draft !== null && this.draft.length > 0 && !this.closed;
    if (isMidRecord && !MESSAGE.test(text)) {
      const seen = text.slice(0, 40);
      this.refuse(start, "dump-malformed", `"${seen}" stands between rows of configuration space`);
    }
    // Lines after something unknown must not be taken for the function before it.
    if (!MESSAGE.test(text)) this.closed = true;
    if (this.noise.count === 0) {
      const line = this.lines.at(start);
      this.noise = { count: 0, line, text: text.slice(0, NOISE_CHARS_MAX) };
    }
    this.noise.count++;
  }

  /** Ends the record before `offset`. */
  private finish(offset: number): void {
    const draft = this.draft;
    if (draft === null) return;
    const { length } = draft;
    if (!WHOLE_BYTES.includes(length)) {
      const what = `configuration space of ${draft.header.slice(0, 40)} ends after ${length} bytes`;
      this.refuse(offset, "dump-truncated", what);
    }
    if (length > 0) draft.config = this.scratch.slice(0, length);
    this.records.push(draft);
    this.draft = null;
  }

  private refuse(offset: number, code: string, reason: string): never {
    const line = this.lines.at(offset);
    const place = `${this.file}:${line}`;
    throw new PeerlaneError(code, reason, { place, remedy: REMEDY, details: { line } });
  }
}

/**
 * Splits a dump.
 * @throws PeerlaneError `dump-truncated`, `dump-malformed` or `too-large`, with file and line
 */
export function splitLspci(text: string, file: string): LspciRecords {
  return new Splitter(text, file).run();
}
