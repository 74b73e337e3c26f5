/**
 * Trees as `lspci -t`, `-tv`, `-tnnv` (and winlspci) print them: which function is where, bus
 * numbers of bridges, and with -v and -nn names and ids. Nothing else is in a tree: every register
 * is unknown.
 *
 * A tree is drawn in columns. A `+` or `\` stands in the column of the bus that its function is on,
 * so a map from columns to buses reads it, whatever names stand to the right.
 *
 * Invariants: one pass; a line that does not fit the drawing is an error with its number, since
 * every line below it could hang from the wrong bus.
 */

import { type Bdf, MACHINE_FUNCTIONS_MAX, makeBdf, PeerlaneError } from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import { UNKNOWN_ID } from "../blank.ts";
import { type ForestNode, type ForestRoot, partFromForest } from "./forest.ts";
import { splitName } from "./names.ts";

const FORMAT = "lspci-tree";
const BECAUSE = "a tree tells places only";

/** First line of a tree: `-[0000:00]-+-00.0` or `-+-[0000:ff]-+-08.0`. */
const FIRST = /^-(?:[+\\]-)?\[(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}\]-/;
const REMEDY = "Take it again: lspci -t -nn -v > tree.txt; better: lspci -nnvvvxxxx as root.";

/** True when the text has a tree as lspci draws it. */
export function isLspciTree(head: string): boolean {
  return head.split("\n", 200).some((line) => FIRST.test(line));
}

interface Bus {
  readonly domain: number;
  readonly number: number;
  readonly nodes: MutableNode[];
}

type MutableNode = { -readonly [K in keyof ForestNode]: ForestNode[K] } & {
  children: MutableNode[];
};

const BUS = /^\[(?:([0-9a-f]{4,8}):)?([0-9a-f]{2})(?:-([0-9a-f]{2}))?\]/;
const DEVICE = /^(?:[0-9a-f]{2}:)?([01][0-9a-f])\.([0-7])/;

class TreeReader {
  private readonly file: string;
  private readonly roots: Bus[] = [];
  private readonly buses = new Map<number, Bus | "roots">();
  private count = 0;

  constructor(file: string) {
    this.file = file;
  }

  /** Reads one line; false when the drawing has ended. */
  take(line: string, number: number): boolean {
    let at = /^[ |]*/.exec(line)?.[0].length ?? 0;
    if (at === line.length) return false;
    let bus: Bus | "roots";
    if (this.roots.length === 0) {
      at = 1;
      bus = "roots";
    } else {
      const branch = this.buses.get(at);
      const mark = line[at];
      if ((mark !== "+" && mark !== "\\") || line[at + 1] !== "-") return false;
      if (branch === undefined) this.refuse(number, `there is no bus in column ${at + 1} above it`);
      for (const column of this.buses.keys()) if (column > at) this.buses.delete(column);
      bus = branch;
      at += 2;
    }
    this.walk(line, at, bus, number);
    return true;
  }

  /** From a bus to the right: a device, the bus behind it, a device on that, and so on. */
  private walk(line: string, start: number, from: Bus | "roots", number: number): void {
    let bus = from;
    let at = start;
    while (at < line.length) {
      const mark = line[at];
      if ((mark === "+" || mark === "\\") && line[at + 1] === "-") {
        this.buses.set(at, bus);
        at += 2;
      } else if (mark === "-") {
        at++;
      } else if (bus === "roots") {
        const match = BUS.exec(line.slice(at));
        if (match === null) this.refuse(number, "the number of a root bus is missing");
        const domain = match[1] === undefined ? 0 : Number.parseInt(match[1], 16);
        bus = { domain, number: Number.parseInt(match[2], 16), nodes: [] };
        this.roots.push(bus);
        at += match[0].length;
      } else {
        const match = DEVICE.exec(line.slice(at));
        if (match === null) this.refuse(number, `"${line.slice(at, at + 20)}" is no function`);
        const device = Number.parseInt(match[1], 16);
        const node = this.add(
          bus,
          makeBdf(bus.domain, bus.number, device, Number(match[2])),
          number,
        );
        at += match[0].length;
        const below = line[at] === "-" ? BUS.exec(line.slice(at + 1)) : null;
        if (below === null) {
          describe(node, line.slice(at).trim());
          return;
        }
        at += 1 + below[0].length;
        bus = this.descend(node, bus.domain, below);
        // winlspci prints names and ids of bridges too, and what is below on lines of its own,
        // under the last digit of the bus numbers.
        if (line[at] === " ") {
          describe(node, line.slice(at).trim());
          this.buses.set(at - 2, bus);
          return;
        }
      }
    }
  }

  private add(bus: Bus, bdf: Bdf, line: number): MutableNode {
    if (++this.count > MACHINE_FUNCTIONS_MAX) {
      this.refuse(line, `more than ${MACHINE_FUNCTIONS_MAX} functions`);
    }
    const node: MutableNode = { bdf, isBridge: false, children: [] };
    bus.nodes.push(node);
    return node;
  }

  private descend(node: MutableNode, domain: number, match: RegExpExecArray): Bus {
    const secondary = Number.parseInt(match[2], 16);
    const subordinate = match[3] === undefined ? secondary : Number.parseInt(match[3], 16);
    node.isBridge = true;
    node.buses = { secondary, subordinate: Math.max(secondary, subordinate) };
    const own = match[1] === undefined ? domain : Number.parseInt(match[1], 16);
    return { domain: own, number: secondary, nodes: node.children };
  }

  result(): ForestRoot[] {
    return this.roots.map(({ domain, number, nodes }) => ({
      domain,
      bus: number,
      children: nodes,
    }));
  }

  private refuse(line: number, reason: string): never {
    throw new PeerlaneError("dump-malformed", `a line of the tree cannot be placed: ${reason}`, {
      place: `${this.file}:${line}`,
      remedy: REMEDY,
      details: { line },
    });
  }
}

/** `NVIDIA Corporation Device [10de:26b1]`, `10de:26b1`, or a name alone. */
function describe(node: MutableNode, text: string): void {
  if (text === "") return;
  const ids = /(?:^|\[| )([0-9a-f]{4}):([0-9a-f]{4})(?:\]|$)/i.exec(text);
  const name = splitName((ids === null ? text : text.slice(0, ids.index)).trim());
  if (name.vendorName !== null) node.vendorName = name.vendorName;
  if (name.deviceName !== null && name.deviceName !== "Device") node.deviceName = name.deviceName;
  const vendorId = ids === null ? name.vendorId : Number.parseInt(ids[1], 16);
  const deviceId = ids === null ? name.deviceId : Number.parseInt(ids[2], 16);
  if (vendorId !== null && vendorId !== UNKNOWN_ID) node.vendorId = vendorId;
  if (deviceId !== null && deviceId !== UNKNOWN_ID) node.deviceId = deviceId;
}

/** Throws `dump-malformed` with file and line, or `no-pci-tree`. */
export function parseLspciTree(text: string, file: string): MachinePart {
  const reader = new TreeReader(file);
  const lines = text.split("\n");
  const first = lines.findIndex((line) => FIRST.test(line));
  if (first < 0) {
    throw new PeerlaneError("no-pci-tree", `${file} has no tree in it`, {
      place: file,
      remedy: REMEDY,
    });
  }
  for (let i = first; i < lines.length; i++) {
    if (!reader.take((lines[i] as string).replace(/\r$/, ""), i + 1)) break;
  }
  return partFromForest(reader.result(), {
    source: { file, format: FORMAT },
    host: {},
    warnings: [],
    because: BECAUSE,
    isComplete: true,
  });
}
