/** The reference of a target's configuration, made from its schema: docs/guide/target-config.md. */

import { z } from "zod";
import { targetConfigSchema } from "./schema.ts";

interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

const HEAD = `# Configuration of a target

\`npx peerlane target --config target.yaml\` reads this. Names are those of Linux' nvmet
configfs, with \`_\` for \`/\`; what nvmetcli saves (\`/etc/nvmet/config.json\`) is read as
well, with a note for each thing that is not offered here. Paths are relative to the file. A
mistake is reported with file, line, column and path, and exit status 2. \`--print-config\`
prints what was understood, without what has its default value. \`peerlane target --help\` has
the options of the simple case.

This page is made from the schema (\`npm run docs:config\`), and a test compares the two.

\`\`\`yaml
subsystems:
  - nqn: nqn.2026-11.org.example:disks
    attr_allow_any_host: true
    namespaces:
      - { nsid: 1, device_path: disk.img, size: 10G }
      - { nsid: 2, size: 1G } # in memory
ports:
  - { portid: 1, addr_traddr: 127.0.0.1, subsystems: ["nqn.2026-11.org.example:disks"] }
  - { portid: 2, addr_traddr: "::1", subsystems: ["nqn.2026-11.org.example:disks"] }
\`\`\`
`;

/** Markdown: a table per mapping. */
export function targetConfigDoc(): string {
  const schema = z.toJSONSchema(targetConfigSchema, { io: "input" }) as JsonSchema;
  const tables: string[] = [];
  table("", schema, targetConfigSchema, tables);
  return `${HEAD}\n${tables.join("\n")}`;
}

function table(path: string, schema: JsonSchema, object: z.ZodObject, into: string[]): void {
  const rows: string[] = [];
  const inner: (() => void)[] = [];
  for (const [key, field] of Object.entries(schema.properties ?? {})) {
    const isList = field.type === "array";
    const item = isList ? field.items : field;
    const deeper = mappingIn(object.shape[key] as z.ZodType);
    if (item !== undefined && deeper !== null) {
      const own = `${path}${key}${isList ? "[]" : ""}.`;
      inner.push(() => table(own, item, deeper, into));
    }
    const mapping = isList ? "list of mappings" : "mapping";
    const values = deeper === null ? valuesOf(field) : mapping;
    const isRequired = schema.required?.includes(key) === true;
    const end = isRequired ? " (required)" : defaultOf(object.shape[key] as z.ZodType);
    rows.push(`| \`${key}\` | ${values} | ${field.description ?? ""}${end} |`);
  }
  const title = path === "" ? "The whole" : `\`${path.slice(0, -1)}\``;
  into.push(`## ${title}\n\n| key | values | what |\n|---|---|---|\n${rows.join("\n")}\n`);
  for (const go of inner) go();
}

const WRAPPERS = [z.ZodDefault, z.ZodPrefault, z.ZodOptional];

/** The mapping that a field is, or is a list of; null: it is neither. */
function mappingIn(type: z.ZodType): z.ZodObject | null {
  let inner: z.ZodType = type;
  for (;;) {
    if (inner instanceof z.ZodObject) return inner;
    if (inner instanceof z.ZodArray) inner = inner.element as z.ZodType;
    else if (WRAPPERS.some((wrapper) => inner instanceof wrapper)) {
      inner = (inner as z.ZodOptional).unwrap() as z.ZodType;
    } else return null;
  }
}

function defaultOf(type: z.ZodType): string {
  const missing = type.safeParse(undefined);
  if (!missing.success || missing.data === undefined || typeof missing.data === "object") return "";
  return ` (\`${missing.data}\`)`;
}

function valuesOf(schema: JsonSchema): string {
  const { enum: words, const: only, anyOf, type, minimum, maximum, items } = schema;
  if (words !== undefined) return words.map((word) => `\`${word}\``).join(", ");
  if (only !== undefined) return `\`${only}\``;
  if (anyOf !== undefined) return [...new Set(anyOf.map(valuesOf))].join(", ");
  if (Array.isArray(type)) return "number, text";
  if (type === "array") return `list of ${valuesOf(items ?? {})}`;
  if (type === "integer" && maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER) {
    return `${minimum} to ${maximum}`;
  }
  return type === "boolean"
    ? "true, false"
    : type === "integer" || type === "number"
      ? "number"
      : "text";
}
