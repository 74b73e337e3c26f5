/**
 * The simple case, from the command line: one subsystem, its namespaces, a few addresses. What it
 * makes is a configuration like any other.
 */

import { parseSize, UsageError } from "../../core/index.ts";
import { type StreamAddress, tryParseAddress } from "../../platform/index.ts";
import { NVMF_PORT } from "../../spec/nvmf/index.ts";
import {
  type CaptureConfig,
  captureSchema,
  type NamespaceConfig,
  type TargetConfig,
  targetConfigSchema,
} from "./schema.ts";

export interface SimpleNamespace {
  /** Null: as large as the file. */
  readonly sizeBytes: number | null;
  /** Null: in memory, gone with the process. */
  readonly file: string | null;
  readonly readOnly?: boolean;
  /** Default 512. */
  readonly blockBytes?: number;
  /** Default: the model of an SSD. */
  readonly backend?: NamespaceConfig["backend"];
}

export interface SimpleOptions {
  /** Each a port of its own; port 0 is any free one. */
  readonly listen: readonly { readonly address: string; readonly port: number }[];
  readonly nqn: string;
  /** Empty: any host may connect. */
  readonly allowedHosts: readonly string[];
  readonly namespaces: readonly SimpleNamespace[];
  /** What stages payload: `auto`, `none` (default: host memory), or a function with memory. */
  readonly provider?: string;
  /** Where peer memory is asked for and there is none. Default `fail`. */
  readonly policy?: string;
  /** Bytes of a CMB to give to the SSD. Default: none. */
  readonly cmbBytes?: number;
}

/** What the command line may say besides any configuration; it wins. */
export interface ExtraOptions {
  readonly machine?: readonly string[];
  readonly ssd?: string;
  readonly control?: string;
  readonly metrics?: string;
  readonly capture?: string;
  readonly captureLimit?: string;
  readonly logFormat?: string;
  readonly logLevel?: string;
}

const SIZE_MIN = 4096;

/** `127.0.0.1:4420`, `[::1]:4420`, `127.0.0.1`. Throws `bad-listen`. */
export function parseListen(text: string): StreamAddress {
  const at = tryParseAddress(text, NVMF_PORT);
  if (at !== null) return at;
  throw new UsageError("bad-listen", `"${text}" is no address to listen on`, {
    remedy: "write 127.0.0.1:4420 or [::1]:4420",
  });
}

/**
 * `size=1G`, `size=1G,file=disk.img`, `file=disk.img,ro,block=4096`, `size=1G,backend=cpu`. Throws
 * `bad-namespace`.
 */
export function parseNamespace(text: string): SimpleNamespace {
  const refuse = (why: string): never => {
    throw new UsageError("bad-namespace", `"${text}" is no namespace: ${why}`, {
      remedy: "write size=1G for memory, or size=1G,file=disk.img[,ro][,block=4096][,backend=cpu]",
    });
  };
  let sizeBytes: number | null = null;
  let file: string | null = null;
  let readOnly = false;
  let blockBytes = 512;
  let backend: NamespaceConfig["backend"] = "ssd";
  for (const part of text.split(",")) {
    const [key, value = ""] = splitOnce(part);
    if (key === "size") sizeBytes = parseSize(value) ?? refuse(`"${value}" is no size`);
    else if (key === "file" && value !== "") file = value;
    else if (part === "ro") readOnly = true;
    else if (key === "block" && /^(?:512|4096)$/.test(value)) blockBytes = Number(value);
    else if (key === "backend" && (value === "ssd" || value === "cpu")) backend = value;
    else refuse(`"${part}" is not size=, file=, ro, block=512|4096 or backend=ssd|cpu`);
  }
  if (file === null && (sizeBytes === null || readOnly)) refuse("memory has a size, and is not ro");
  if (sizeBytes !== null && (sizeBytes < SIZE_MIN || sizeBytes % SIZE_MIN !== 0)) {
    refuse("its size must be a multiple of 4 KiB");
  }
  return { sizeBytes, file, readOnly, blockBytes, backend };
}

function splitOnce(text: string): [string, string?] {
  const at = text.indexOf("=");
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function backing(namespace: SimpleNamespace) {
  const { sizeBytes, file, readOnly = false, blockBytes = 512, backend = "ssd" } = namespace;
  return {
    backend,
    ...(sizeBytes === null ? {} : { size: sizeBytes }),
    ...(file === null ? {} : { device_path: file }),
    read_only: readOnly,
    block_size: blockBytes,
  };
}

/** As configfs has it. */
function p2pmemOf(provider: string | undefined): string {
  if (provider === undefined || provider === "none") return "0";
  return provider === "auto" ? "1" : provider;
}

/** The configuration that options stand for. Throws `bad-option`. */
export function simpleConfig(options: SimpleOptions): TargetConfig {
  const { nqn, policy, cmbBytes } = options;
  return checked({
    ...(policy === undefined ? {} : { p2pmem_policy: policy }),
    ...(cmbBytes === undefined ? {} : { cmb: cmbBytes }),
    subsystems: [
      {
        nqn,
        attr_allow_any_host: options.allowedHosts.length === 0,
        allowed_hosts: options.allowedHosts,
        namespaces: options.namespaces.map((namespace, i) => ({
          nsid: i + 1,
          p2pmem: p2pmemOf(options.provider),
          ...backing(namespace),
        })),
      },
    ],
    ports: options.listen.map(({ address, port }, i) => ({
      portid: i + 1,
      addr_traddr: address,
      addr_trsvcid: port,
      subsystems: [nqn],
    })),
  });
}

/** The configuration with what else the command line says. Throws `bad-option`. */
export function withOptions(config: TargetConfig, options: ExtraOptions): TargetConfig {
  const { logFormat: format, logLevel: level } = options;
  const extra = Object.entries({
    machine: options.machine,
    ssd: options.ssd,
    control: options.control,
    metrics: options.metrics,
    capture: captureOf(options) ?? config.capture,
    log: {
      ...config.log,
      ...(format === undefined ? {} : { format }),
      ...(level === undefined ? {} : { level }),
    },
  }).filter(([, value]) => value !== undefined);
  return checked({ ...config, ...Object.fromEntries(extra) });
}

/** `--capture`, `--capture-limit`. Throws `bad-option`. */
export function captureOf(
  options: Pick<ExtraOptions, "capture" | "captureLimit">,
): CaptureConfig | undefined {
  const { capture, captureLimit } = options;
  if (captureLimit !== undefined && capture === undefined) {
    throw new UsageError("bad-option", "--capture-limit needs --capture", {
      remedy: "add --capture FILE",
    });
  }
  if (capture === undefined) return undefined;
  const limit = captureLimit === undefined ? {} : { max_bytes: captureLimit };
  const result = captureSchema.safeParse({ path: capture, ...limit });
  if (result.success) return result.data;
  throw new UsageError("bad-option", `--capture: ${result.error.issues[0]?.message}`, {
    remedy: "write --capture FILE --capture-limit 1G",
  });
}

function checked(value: unknown): TargetConfig {
  const result = targetConfigSchema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0] as { path: PropertyKey[]; message: string };
  throw new UsageError("bad-option", `${path.map(String).join(".")}: ${message}`, {
    remedy: "peerlane target --help shows the options",
  });
}
