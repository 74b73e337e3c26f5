/**
 * XML as a plain tree of elements, for topologies of strangers: entities are not expanded (but the
 * five that XML itself names), depth and size are bounded, and damage is told with line and column.
 *
 * Leaves out: text between elements, namespaces, and the document type: nothing here needs them.
 */

import { XMLParser, XMLValidator } from "fast-xml-parser";
import { PeerlaneError, XML_BYTES_MAX, XML_DEPTH_MAX } from "../../core/index.ts";

export interface XmlElement {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&apos;": "'",
  "&amp;": "&",
};

const decode = (value: string): string =>
  value.includes("&") ? value.replace(/&(?:lt|gt|quot|apos|amp);/g, (e) => ENTITIES[e]) : value;

/** What fast-xml-parser answers with `preserveOrder`: one key is the name, `:@` the attributes. */
type Parsed = Readonly<Record<string, unknown>>;

const ATTRIBUTES = ":@";

/** The root element. Throws `xml-damaged` with file, line and column, or `xml-too-large`. */
export function parseXml(text: string, file: string): XmlElement {
  if (text.length > XML_BYTES_MAX) {
    throw new PeerlaneError("xml-too-large", `${file} holds more than ${XML_BYTES_MAX} bytes`, {
      place: file,
      remedy: "Give the topology of one machine; the largest known are below 1 MiB.",
    });
  }
  checkDepth(text, file);
  const checked = XMLValidator.validate(text);
  if (checked !== true) {
    const { line, col, msg } = checked.err;
    throw damaged(file, `${file}:${line}:${col ?? 0}`, msg);
  }
  const parser = new XMLParser({
    preserveOrder: true,
    ignoreAttributes: false,
    attributeNamePrefix: "",
    parseTagValue: false,
    parseAttributeValue: false,
    processEntities: false,
    ignoreDeclaration: true,
    ignorePiTags: true,
    maxNestedTags: XML_DEPTH_MAX,
  });
  let parsed: Parsed[];
  try {
    parsed = parser.parse(text) as Parsed[];
  } catch (cause) {
    throw damaged(file, file, (cause as Error).message);
  }
  const roots = toElements(parsed);
  if (roots.length !== 1) throw damaged(file, file, `it has ${roots.length} root elements`);
  return roots[0];
}

/** Before the parser recurses or joins paths: how deep elements nest, told by tags alone. */
function checkDepth(text: string, file: string): void {
  let depth = 0;
  for (const match of text.matchAll(/<(?:(\/)|[A-Za-z_][^<>]*?(\/)?>)/g)) {
    if (match[1] !== undefined) depth--;
    else if (match[2] === undefined) depth++;
    if (depth > XML_DEPTH_MAX) {
      const line = text.slice(0, match.index).split("\n").length;
      throw damaged(file, `${file}:${line}`, `elements nest more than ${XML_DEPTH_MAX} deep`);
    }
  }
}

function toElements(parsed: readonly Parsed[]): XmlElement[] {
  const elements: XmlElement[] = [];
  for (const node of parsed) {
    const name = Object.keys(node).find((key) => key !== ATTRIBUTES && !key.startsWith("#"));
    if (name === undefined || name.startsWith("?")) continue;
    const attributes = Object.entries((node[ATTRIBUTES] ?? {}) as Record<string, string>);
    elements.push({
      name,
      attributes: new Map(attributes.map(([key, value]) => [key, decode(String(value))])),
      children: toElements(node[name] as Parsed[]),
    });
  }
  return elements;
}

function damaged(file: string, place: string, what: string): PeerlaneError {
  return new PeerlaneError("xml-damaged", `${file} is not well-formed XML: ${what.slice(0, 200)}`, {
    place,
    remedy: "Copy the file again; it may be cut or edited.",
  });
}

/** All elements of a name at any depth, in document order. Depth is bounded by {@link parseXml}. */
export function* elementsNamed(root: XmlElement, name: string): Generator<XmlElement> {
  if (root.name === name) yield root;
  for (const child of root.children) yield* elementsNamed(child, name);
}
