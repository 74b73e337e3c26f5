/**
 * A scenario as data: which machine, which devices, what to write and read, and how the memory in
 * between is described. One schema drives validation, the types and the documentation.
 *
 * Sizes are numbers of bytes or text such as `64M`; functions are BDFs or `auto`.
 */

import { z } from "zod";
import { parseSize, tryParseBdf } from "../core/index.ts";

export const size = z
  .union([z.number().int().positive(), z.string()])
  .transform((value, context) => {
    const bytes = typeof value === "number" ? value : parseSize(value);
    if (bytes !== null && bytes > 0) return bytes;
    context.addIssue({ code: "custom", message: `"${value}" is no size: write 4096, 64K, 1G` });
    return z.NEVER;
  });

const bdf = z.string().transform((text, context) => {
  const value = tryParseBdf(text);
  if (value !== null) return value;
  context.addIssue({
    code: "custom",
    message: `"${text}" is no PCI function: write domain:bus:device.function, as 0000:18:00.0`,
  });
  return z.NEVER;
});

export const bdfOrAuto = z.union([z.literal("auto"), bdf]);

const cpu = z
  .string()
  .regex(/^\w+:\d+$/, "write vendor:family as /proc/cpuinfo has them, for example GenuineIntel:6")
  .transform((text) => {
    const [vendor, family] = text.split(":") as [string, string];
    return { vendor, family: Number(family) };
  });

const setAcs = z.strictObject({
  setAcs: z.strictObject({ function: bdf, control: z.number().int().min(0).max(0xffff) }),
});

/** Edits made to the machine before it runs, in order. Each is printed with the result. */
const edit = z.union([
  z.strictObject({
    /** Gives a function a Controller Memory Buffer in a BAR of its own. */
    addCmb: z.strictObject({ function: bdfOrAuto, size }),
  }),
  setAcs,
]);

const machineWith = <Edit extends z.ZodType>(edits: Edit) =>
  z.strictObject({
    /** Dump, relative to the scenario file. */
    file: z.string().min(1),
    /** What the dump does not tell. */
    cpu: cpu.optional(),
    /** Kernel whose rules hold; left out: the machine's own, or the latest known. */
    kernel: z
      .string()
      .regex(/^\d{1,3}\.\d{1,3}$/, 'write a quoted version, for example "5.15"')
      .optional(),
    edits: z.array(edits).default([]),
  });

/** What scenarios of every kind have. */
export const nameField = z.string().min(1);
/** What it shows, for the reader of the report. */
export const aboutField = z.string().default("");
/** The machine of scenarios that add no CMB. */
export const machineField = machineWith(setAcs);
/** Mode of the IOMMU in front of the devices. */
export const iommuField = z.enum(["off", "passthrough", "strict"]).default("off");
/**
 * What the root complex does with requests from one root port to another. `auto`: it forwards them
 * where the kernel's rules rely on that, and drops them else.
 */
export const rootComplexField = z
  .union([
    z.literal("auto"),
    z.strictObject({
      peerWrites: z.enum(["forward", "drop"]),
      peerReads: z.enum(["forward", "drop"]),
    }),
  ])
  .default("auto");
export const namespaceField = z
  .strictObject({ size, blockBytes: z.union([z.literal(512), z.literal(4096)]) })
  .default({ size: 2 ** 30, blockBytes: 4096 });

export const DESCRIPTIONS = ["host-memory", "dma-address", "lease"] as const;
export type DescriptionName = (typeof DESCRIPTIONS)[number];

export const scenarioSchema = z.strictObject({
  /** Others: gpu/schema.ts. */
  kind: z
    .literal("nvmet", { error: "write nvmet (or leave it out), gds or gpudirect-rdma" })
    .default("nvmet"),
  name: nameField,
  about: aboutField,
  machine: machineWith(edit),
  iommu: iommuField,
  rootComplex: rootComplexField,
  target: z.strictObject({
    nic: bdfOrAuto.default("auto"),
    ssd: bdfOrAuto.default("auto"),
    /**
     * Where payload is staged. `auto` lets the orchestrator choose among all that is published:
     * memory BARs of GPUs and CMBs. `cmb` asks for the SSD's own, a BDF for that function's memory.
     */
    provider: z.union([z.literal("cmb"), bdfOrAuto]).default("auto"),
    /** Bytes of the provider's BAR that the target may use. */
    providerBytes: size.default(64 * 2 ** 20),
    /** When there is no provider, or its pool is exhausted. */
    policy: z.enum(["fail", "host-memory"]).default("fail"),
    /** Take the NIC and SSD that do NOT share a switch: to show a refusal. */
    apart: z.boolean().default(false),
  }),
  namespace: namespaceField,
  workload: z.strictObject({
    seed: z.number().int().min(0).max(0xffffffff).default(1),
    /** Each entry: that many writes of that size, then reads of the same blocks. */
    operations: z
      .array(z.strictObject({ count: z.number().int().min(1).max(10_000_000), size }))
      .min(1),
    queueDepth: z.number().int().min(1).max(1024).default(32),
  }),
  /** The descriptions of I/O memory to compare, in order. */
  runs: z.array(z.enum(DESCRIPTIONS)).min(1).default(["host-memory", "dma-address", "lease"]),
});

export type Scenario = z.output<typeof scenarioSchema>;
export type ScenarioEdit = z.output<typeof edit>;
