/**
 * The configuration of `peerlane target` as data: hosts, subsystems with namespaces, ports, and how
 * it runs. Names are those of Linux' nvmet configfs where it has them, with `/` as `_`
 * (`attr_serial`, `device_path`, `addr_traddr`, `ana_groups`). One schema drives validation, the
 * types, the control socket and the reference in docs/guide/target-config.md (tested to agree).
 *
 * Leaves out: what only a kernel has (`device_offload`, passthru, `attr_pi_enable`, FC addresses);
 * such keys are refused by name.
 */

import { z } from "zod";
import {
  NVMET_ANA_GROUPS_MAX,
  NVMET_NAMESPACES_MAX,
  NVMET_QUEUE_DEPTH_MAX,
  NVMET_QUEUES_MAX,
  parseSize,
  tryParseBdf,
} from "../../core/index.ts";
import { POLICY_NAMES, parseP2pSetting } from "../../nvmet/index.ts";
import { AnaState } from "../../spec/nvme/index.ts";
import { NVMF_PORT, nqnProblem } from "../../spec/nvmf/index.ts";
import { CAPTURE_BYTES_DEFAULT, CAPTURE_BYTES_MIN } from "../capture/recording.ts";
import { limitsSchema } from "./limits-schema.ts";

const whole = (low: number, high: number) => z.number().int().min(low).max(high);
const ascii = (most: number) =>
  z
    .string()
    .regex(/^[\x20-\x7e]*$/, "write printable ASCII")
    .min(1)
    .max(most);

export const nqn = z.string().superRefine((text, context) => {
  const problem = nqnProblem(text);
  if (problem === null) return;
  context.addIssue({
    code: "custom",
    message: `"${text}" is not an NVMe Qualified Name: ${problem}`,
  });
});

/** configfs knows 0 and 1, YAML true and false; both mean the same here. */
export const flag = z
  .union([z.boolean(), z.literal(0), z.literal(1)])
  .transform((value) => value === true || value === 1);

/** Bytes as a number, or text such as `1G`. */
export const size = z.union([z.number(), z.string()]).transform((value, context) => {
  const bytes = typeof value === "number" ? value : parseSize(value);
  if (bytes !== null && Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  context.addIssue({ code: "custom", message: `"${value}" is no size: write 4096, 64K, 1G` });
  return z.NEVER;
});

const SIZE_UNIT = 4096;
const namespaceSize = size.refine((bytes) => bytes % SIZE_UNIT === 0, {
  message: "a namespace is a multiple of 4 KiB long",
});

const uuid = z
  .string()
  .regex(
    /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i,
    "write 8-4-4-4-12 hexadecimal digits",
  )
  .transform((text) => text.toLowerCase());

/** 32 digits; configfs prints dashes, which are ignored. */
const nguid = z
  .string()
  .regex(/^[0-9a-f-]+$/i, "write 32 hexadecimal digits")
  .transform((text) => text.toLowerCase().replaceAll("-", ""))
  .refine((text) => text.length === 32, { message: "an NGUID has 32 hexadecimal digits" });

export const P2P_DEFAULT = "0";

const p2pmem = z.union([z.boolean(), z.number(), z.string()]).transform((value, context) => {
  const text = String(value);
  try {
    parseP2pSetting(text);
    return text;
  } catch {
    const message = `"${text}" is no setting of p2pmem: write 0, 1, or 0000:18:00.0`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  }
});

const bdf = z.string().superRefine((text, context) => {
  if (tryParseBdf(text) !== null) return;
  const message = `"${text}" is no PCI function: write it as 0000:18:00.0`;
  context.addIssue({ code: "custom", message });
});

/** ANA states by their names in configfs. */
export const ANA_STATES = {
  optimized: AnaState.optimized,
  "non-optimized": AnaState.nonOptimized,
  inaccessible: AnaState.inaccessible,
  "persistent-loss": AnaState.persistentLoss,
  change: AnaState.change,
} as const;
export type AnaStateName = keyof typeof ANA_STATES;
export const anaStateName = z.enum(Object.keys(ANA_STATES) as [AnaStateName, ...AnaStateName[]]);

const DHCHAP_HASH_NAMES = ["hmac(sha256)", "hmac(sha384)", "hmac(sha512)"] as const;
const DHCHAP_GROUP_NAMES = [
  "null",
  "ffdhe2048",
  "ffdhe3072",
  "ffdhe4096",
  "ffdhe6144",
  "ffdhe8192",
] as const;

const dhchapKey = z.string().regex(/^DHHC-1:\d\d:[A-Za-z0-9+/=]+:$/, "write DHHC-1:00:...:");

const tlsKey = z
  .string()
  .regex(/^NVMeTLSkey-1:0[012]:[A-Za-z0-9+/=]+:$/, "write NVMeTLSkey-1:01:...:");
const KEYS_MAX = 8;
const oneOrMore = <T extends z.ZodType>(key: T) =>
  z.union([key, z.array(key).min(1).max(KEYS_MAX)]);

export const hostSchema = z.strictObject({
  nqn: nqn.describe("name of the host"),
  dhchap_key: oneOrMore(dhchapKey)
    .optional()
    .describe("secret with which the host proves who it is; a list while it is replaced"),
  dhchap_ctrl_key: dhchapKey
    .optional()
    .describe("secret with which the controller proves itself to the host"),
  dhchap_hash: z
    .enum(DHCHAP_HASH_NAMES)
    .default("hmac(sha256)")
    .describe("the one hash that is taken"),
  dhchap_dhgroup: z
    .enum(DHCHAP_GROUP_NAMES)
    .default("null")
    .describe("the one Diffie-Hellman group that is taken"),
  tls_key: oneOrMore(tlsKey)
    .optional()
    .describe(
      "pre-shared key for TLS in the interchange format, a list while it is replaced; not in " +
        "configfs (a keyring there)",
    ),
});

/** What has a namespace's blocks. */
const BACKENDS = ["ssd", "cpu"] as const;

const namespaceFields = z.strictObject({
  nsid: whole(1, NVMET_NAMESPACES_MAX).describe("namespace identifier"),
  device_path: z.string().min(1).optional().describe("file with the data; without it: memory"),
  size: namespaceSize
    .optional()
    .describe("bytes; may be left out for a file that exists; a shorter file is extended"),
  backend: z
    .enum(BACKENDS)
    .default("ssd")
    .describe(
      "what has its blocks: the model of the SSD over the file or memory, or (cpu) the file or " +
        "memory itself, which the CPU copies from and to (not in configfs)",
    ),
  device_uuid: uuid.optional().describe("UUID (default: made from NQN and NSID)"),
  device_nguid: nguid.optional().describe("NGUID (default: made from NQN and NSID)"),
  enable: flag.default(true).describe("hosts see it"),
  ana_grpid: whole(1, NVMET_ANA_GROUPS_MAX).default(1).describe("ANA group it belongs to"),
  p2pmem: p2pmem
    .default(P2P_DEFAULT)
    .describe("peer memory for its data: 0, 1, or the function that has the memory"),
  buffered_io: flag
    .refine((isBuffered) => isBuffered, {
      message:
        "direct I/O is not offered: files go through the page cache, and Flush and FUA are an " +
        "fdatasync; write true, or leave it out",
    })
    .default(true)
    .describe("file access through the page cache; flush and FUA are fdatasync"),
  read_only: flag.default(false).describe("writes are refused (not in configfs)"),
  block_size: z
    .union([z.literal(512), z.literal(4096)])
    .default(512)
    .describe("bytes of a logical block (not in configfs)"),
});

export const namespaceSchema = namespaceFields.refine(
  ({ backend, p2pmem }) => backend === "ssd" || p2pmem === P2P_DEFAULT,
  {
    path: ["p2pmem"],
    message: "the CPU needs no peer memory: write backend: ssd, or leave p2pmem out",
  },
);

export const subsystemSchema = z.strictObject({
  nqn: nqn.describe("name of the subsystem"),
  attr_allow_any_host: flag.default(false).describe("any host may connect"),
  attr_serial: ascii(20).optional().describe("serial number (default: made from the name)"),
  attr_model: ascii(40).default("Peerlane NVMe-oF target").describe("model number"),
  attr_firmware: ascii(8).default("1").describe("firmware revision"),
  attr_qid_max: whole(1, NVMET_QUEUES_MAX).default(16).describe("I/O queues of a controller"),
  allowed_hosts: z.array(nqn).default([]).describe("hosts that may connect"),
  namespaces: z.array(namespaceSchema).default([]).describe("its namespaces"),
});

const serviceId = z
  .union([z.number().int(), z.string().regex(/^\d+$/, "write a port number")])
  .transform(Number)
  .pipe(whole(0, 65_535));

const address = z.string().min(1).max(255);

export const referralSchema = z.strictObject({
  name: ascii(64).describe("name of the referral"),
  addr_trtype: z.enum(["tcp", "rdma"]).default("tcp").describe("transport"),
  addr_traddr: address.describe("address of the other discovery controller"),
  addr_trsvcid: serviceId.default(8009).describe("its port number"),
  addr_portid: whole(0, 65_535).default(0).describe("port identifier that its entry has"),
  enable: flag.default(true).describe("hosts see it"),
});

export const anaGroupSchema = z.strictObject({
  grpid: whole(1, NVMET_ANA_GROUPS_MAX).describe("ANA group"),
  ana_state: anaStateName.default("optimized").describe("its state through this port"),
});

export const portSchema = z.strictObject({
  portid: whole(1, 65_535).describe("port identifier"),
  addr_trtype: z.literal("tcp").default("tcp").describe("transport"),
  addr_adrfam: z.enum(["ipv4", "ipv6"]).optional().describe("family (default: by the address)"),
  addr_traddr: address.default("127.0.0.1").describe("address to listen on"),
  addr_trsvcid: serviceId
    .default(NVMF_PORT)
    .describe("port number; 0: any free one, which only the log names"),
  addr_treq: z
    .enum(["not specified", "required", "not required"])
    .default("not specified")
    .describe("whether a host must use a secure channel"),
  addr_tsas: z.enum(["none", "tls1.3"]).default("none").describe("security of the transport"),
  param_inline_data_size: size
    .optional()
    .describe("bytes of in-capsule data of an I/O queue, up to 8K (default: 8K)"),
  param_max_queue_size: whole(16, NVMET_QUEUE_DEPTH_MAX)
    .default(128)
    .describe("entries of the largest queue"),
  ana_groups: z
    .array(anaGroupSchema)
    .default([])
    .describe("states of ANA groups that are not optimized here"),
  subsystems: z.array(nqn).default([]).describe("subsystems that are reached here"),
  referrals: z.array(referralSchema).default([]).describe("other discovery controllers"),
});

const listenText = z
  .string()
  .regex(/^(?:\[[0-9a-fA-F:.]+\]|[^:[\]]+):\d{1,5}$/, "write 127.0.0.1:9100 or [::1]:9100");

export const captureSchema = z.strictObject({
  path: z.string().min(1).describe("pcapng file; it has users' data in it"),
  max_bytes: size
    .refine((bytes) => bytes >= CAPTURE_BYTES_MIN, { message: "a capture has 64K or more" })
    .default(CAPTURE_BYTES_DEFAULT)
    .describe("bytes of the file at which it stops"),
  overwrite: flag.default(false).describe("a file that is there is replaced"),
});

export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;

export const targetConfigSchema = z.strictObject({
  machine: z
    .array(z.string().min(1))
    .default([])
    .describe("dumps of the machine that serves (default: one that ships)"),
  ssd: bdf.optional().describe("its NVMe controller behind which namespaces are (default: first)"),
  cmb: size
    .optional()
    .describe("bytes of a Controller Memory Buffer to give to that controller (default: none)"),
  p2pmem_policy: z
    .enum(POLICY_NAMES)
    .default("fail")
    .describe("where p2pmem asks for peer memory and there is none"),
  control: z.string().min(1).optional().describe("path of the control socket (default: none)"),
  metrics: listenText.optional().describe("address for Prometheus metrics (default: none)"),
  log: z
    .strictObject({
      format: z.enum(["text", "json"]).default("text").describe("a line for people, or JSON"),
      level: z.enum(LOG_LEVELS).default("info").describe("what is worth a line"),
    })
    .prefault({})
    .describe("what is written to standard error"),
  capture: captureSchema
    .optional()
    .describe("records connections for Wireshark from the start on (default: no)"),
  limits: limitsSchema.prefault({}).describe("what hosts may use"),
  hosts: z.array(hostSchema).default([]).describe("hosts that need keys"),
  subsystems: z.array(subsystemSchema).default([]).describe("subsystems"),
  ports: z.array(portSchema).default([]).describe("where it listens"),
});

export type TargetConfig = z.output<typeof targetConfigSchema>;
export type HostConfig = z.output<typeof hostSchema>;
export type NamespaceConfig = z.output<typeof namespaceSchema>;
export type SubsystemConfig = z.output<typeof subsystemSchema>;
export type PortConfig = z.output<typeof portSchema>;
export type ReferralConfig = z.output<typeof referralSchema>;
export type CaptureConfig = z.output<typeof captureSchema>;
export type TargetLimits = z.output<typeof limitsSchema>;

/** The 16 bytes of a UUID or NGUID as text. */
export function identifierBytes(text: string): Uint8Array {
  const digits = text.replaceAll("-", "");
  return Uint8Array.from({ length: 16 }, (_, i) =>
    Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
}
