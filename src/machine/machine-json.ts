/**
 * Reads `machine.json`, which machine-json-write.ts writes and describes.
 *
 * Invariant: a file that parses is a machine whose numbers are in range and whose lists are
 * bounded; anything else is refused with the path of the field. Apart from the writer, since the
 * schema takes longer to build than most dumps to read: it is loaded when such a file is met.
 */

import { z } from "zod";
import {
  ADDRESS_LIMIT,
  type Bdf,
  formatBdf,
  KERNEL_CONFIG_LINES_MAX,
  MACHINE_FUNCTIONS_MAX,
  PeerlaneError,
  RAM_RANGES_MAX,
  tryParseBdf,
} from "../core/index.ts";
import { CONFIG_PCIE_BYTES } from "../spec/pcie/index.ts";
import {
  type Config,
  MACHINE_JSON_FORMAT as FORMAT,
  MACHINE_JSON_VERSION as VERSION,
} from "./machine-json-write.ts";
import { type Machine, type PciFunction, PortType } from "./snapshot.ts";

const LIST_MAX = 4096;
const text = z.string().max(16_384);
const byte = z.int().min(0).max(0xff);
const word = z.int().min(0).max(0xffff);
const bus = byte;
const address = z
  .int()
  .min(0)
  .max(ADDRESS_LIMIT - 1);
const size = z.int().min(0).max(ADDRESS_LIMIT);
const count = z.int().min(0).max(65_536);
const offset = z
  .int()
  .min(0)
  .max(CONFIG_PCIE_BYTES - 1);
const bdf = text.transform((value, context): Bdf => {
  const parsed = tryParseBdf(value);
  if (parsed !== null) return parsed;
  context.addIssue({ code: "custom", message: `"${value.slice(0, 40)}" names no PCI function` });
  return z.NEVER;
});

const unknownSchema = z.object({ field: text, consequence: text });
const windowSchema = z.object({ base: address, limit: address });
const barSchema = z.object({
  index: z.int().min(0).max(6),
  kind: z.enum(["memory32", "memory64", "io"]),
  prefetchable: z.boolean(),
  address,
  sizeBytes: size.nullable(),
  enabled: z.boolean(),
});
const bars = z.array(barSchema).max(7);
const link = z.object({ generation: z.int().min(0).max(15), width: z.int().min(0).max(63) });
const bridgeSchema = z.object({
  primary: bus,
  secondary: bus,
  subordinate: bus,
  io: windowSchema.nullable(),
  memory: windowSchema.nullable(),
  prefetchable: windowSchema.nullable(),
  bridgeControl: word,
});
const pcieSchema = z.object({
  portType: z.union(Object.values(PortType).map((value) => z.literal(value))),
  offset,
  link: link.nullable(),
  linkCapability: link.nullable(),
  maxPayloadSupported: count,
  maxPayload: count,
  maxReadRequest: count,
  readCompletionBoundary: count,
  relaxedOrdering: z.boolean(),
  extendedTags: z.boolean(),
  functionLevelReset: z.boolean(),
  ariForwarding: z.boolean(),
  slot: count.nullable(),
});
const acsSchema = z.object({
  offset,
  capabilities: word,
  control: word,
  egressVector: z.array(z.int().min(0).max(0xffffffff)).max(LIST_MAX).nullable(),
});
const sriovSchema = z.object({
  offset,
  totalVfs: count,
  numVfs: count,
  firstVfOffset: word,
  vfStride: word,
  vfDeviceId: word,
  vfEnable: z.boolean(),
  bars,
});
const msixSchema = z.object({
  offset,
  vectors: count,
  enabled: z.boolean(),
  tableBar: z.int().min(0).max(7),
  tableOffset: size,
  pbaBar: z.int().min(0).max(7),
  pbaOffset: size,
});
const functionSchema = z.object({
  bdf,
  vendorId: word,
  deviceId: word,
  subsystemVendorId: word.nullable(),
  subsystemId: word.nullable(),
  classCode: z.int().min(0).max(0xffffff),
  revision: byte,
  headerType: z.int().min(0).max(0x7f),
  multiFunction: z.boolean(),
  command: word.nullable(),
  bars,
  bridge: bridgeSchema.nullable(),
  pcie: pcieSchema.nullable(),
  acs: acsSchema.nullable(),
  sriov: sriovSchema.nullable(),
  physicalFunction: bdf.nullable(),
  resizableBars: z
    .array(
      z.object({
        index: z.int().min(0).max(6),
        currentBytes: size,
        supportedBytes: z.array(size).max(64),
      }),
    )
    .max(7),
  msix: msixSchema.nullable(),
  ats: z.object({ enabled: z.boolean() }).nullable(),
  aerOffset: offset.nullable(),
  capabilities: z
    .array(z.object({ id: word, offset, extended: z.boolean(), version: byte }))
    .max(LIST_MAX),
  numaNode: z.int().min(0).max(65_535).nullable(),
  iommuGroup: z.int().min(0).max(0x7fffffff).nullable(),
  iommuDomain: text.nullable().optional(),
  driver: text.nullable(),
  vendorName: text.nullable(),
  deviceName: text.nullable(),
  className: text.nullable(),
  physicalSlot: text.nullable(),
  kernelNames: z.array(text).max(LIST_MAX).optional(),
  p2pmem: z.object({ sizeBytes: size, published: z.boolean() }).nullable(),
  config: z.object({ bytes: z.int().min(0).max(CONFIG_PCIE_BYTES), base64: text }).nullable(),
  /** Positions in `unknowns`. */
  unknown: z.array(z.int().min(0)).max(LIST_MAX),
});
const hostSchema = z.object({
  cpuVendor: text.nullable(),
  cpuFamily: z.int().min(0).max(65_535).nullable(),
  cpuModel: text.nullable(),
  architecture: text.nullable(),
  kernelVersion: text.nullable(),
  kernelCommandLine: text.nullable(),
  iommu: z.enum(["off", "passthrough", "strict"]).nullable(),
  modules: z.array(text).max(LIST_MAX).nullable(),
  kernelConfig: z
    .record(text, text)
    .refine((config) => Object.keys(config).length <= KERNEL_CONFIG_LINES_MAX)
    .nullable(),
  ram: z.array(windowSchema).max(RAM_RANGES_MAX).nullable(),
  unknown: z.array(unknownSchema).max(LIST_MAX),
});
const hostBridgeSchema = z.object({
  domain: z.int().min(0).max(0xffffffff),
  bus,
  busEnd: bus,
  apertures: z.array(z.object({ phys: address, bus: address, sizeBytes: size })).max(LIST_MAX),
  numaNode: z.int().min(0).max(65_535).nullable(),
});
const fileSchema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  name: text,
  sources: z.array(z.object({ file: text, format: text })).max(LIST_MAX),
  host: hostSchema,
  hostBridges: z.array(hostBridgeSchema).max(MACHINE_FUNCTIONS_MAX),
  warnings: z.array(text).max(LIST_MAX),
  unknowns: z.array(unknownSchema).max(MACHINE_FUNCTIONS_MAX),
  functions: z.array(functionSchema).max(MACHINE_FUNCTIONS_MAX),
});

function unpackConfig(config: Config | null, place: string): Uint8Array | null {
  if (config === null) return null;
  const bytes = new Uint8Array(config.bytes);
  let packed: string;
  try {
    packed = atob(config.base64);
  } catch (cause) {
    throw invalid(place, "it is not base64", cause);
  }
  if (packed.length > bytes.length) throw invalid(place, "it is longer than it says");
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  return bytes;
}

/**
 * The machine of a file.
 * @throws PeerlaneError `machine-json-invalid` with the path of the field, `machine-json-version`
 */
export function parseMachineJson(source: string, file: string): Machine {
  let json: unknown;
  try {
    json = JSON.parse(source);
  } catch (cause) {
    throw invalid(file, (cause as Error).message, cause);
  }
  const { format, version } = (json ?? {}) as { format?: unknown; version?: unknown };
  if (format === FORMAT && version !== VERSION) {
    throw new PeerlaneError("machine-json-version", `${file} is version ${String(version)}`, {
      place: file,
      remedy: `Version ${VERSION} is read; use the program that wrote it, or capture again.`,
    });
  }
  const checked = fileSchema.safeParse(json);
  if (!checked.success) {
    const issue = checked.error.issues[0];
    const path = issue.path.map((part) =>
      typeof part === "number" ? `[${part}]` : `.${String(part)}`,
    );
    throw invalid(`${file}: ${path.join("").replace(/^\./, "")}`, issue.message);
  }
  const { functions, unknowns, format: _format, version: _version, ...rest } = checked.data;
  const built = functions.map((fn, index): PciFunction => {
    const place = `${file}: functions[${index}]`;
    const unknown = fn.unknown.map((position) => {
      const entry = unknowns[position];
      if (entry === undefined) throw invalid(`${place}.unknown`, `there is no entry ${position}`);
      return entry;
    });
    const { iommuDomain, kernelNames, ...told } = fn;
    return {
      ...told,
      ...(iommuDomain === undefined ? {} : { iommuDomain }),
      ...(kernelNames === undefined ? {} : { kernelNames }),
      config: unpackConfig(fn.config, `${place}.config`),
      unknown,
    };
  });
  checkOrder(built, file);
  return { ...rest, functions: built };
}

function checkOrder(functions: readonly PciFunction[], file: string): void {
  for (let i = 1; i < functions.length; i++) {
    if (functions[i - 1].bdf < functions[i].bdf) continue;
    throw invalid(
      `${file}: functions[${i}].bdf`,
      `${formatBdf(functions[i].bdf)} is out of order or there twice`,
    );
  }
}

function invalid(place: string, reason: string, cause?: unknown): PeerlaneError {
  return new PeerlaneError("machine-json-invalid", `the machine cannot be read: ${reason}`, {
    place,
    remedy: "Write it again with `peerlane capture` or from its dump; do not edit it by hand.",
    cause,
  });
}
