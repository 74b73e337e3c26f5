/**
 * What a user of the driver may choose, with defaults, and what is checked before the controller is
 * touched.
 */

import { IntegrityPolicy } from "../block/index.ts";
import { isPowerOfTwo, NVME_DRIVER_QUEUES_MAX, UsageError } from "../core/index.ts";
import { Tracer } from "../trace/index.ts";

export interface NvmeOptions {
  /** Entries of each I/O queue; the controller may allow fewer. Default 256. */
  readonly queueDepth?: number;
  /** I/O queue pairs; the controller may grant fewer. Default 1: one thread drives them. */
  readonly ioQueues?: number;
  /** Host page (CC.MPS) in bytes. Default 4096. */
  readonly pageBytes?: number;
  /** Put submission queues in the CMB where the controller allows it. Default false. */
  readonly useCmbSqs?: boolean;
  /** Use the CMB at all, when there is one. Default true. */
  readonly useCmb?: boolean;
  /**
   * Average segment in bytes from which data goes as SGLs instead of PRPs. Default 32 KiB, as
   * Linux; Infinity: only where PRPs cannot describe it.
   */
  readonly sglThreshold?: number;
  /** Never use SGLs, whatever the controller says. Default false. */
  readonly noSgl?: boolean;
  /** Largest transfer, besides MDTS. Default 2 MiB: one list page at any offset. */
  readonly maxTransferBytes?: number;
  readonly maxSegments?: number;
  /** A command is aborted after this long, and the controller reset after as long again. 30 s. */
  readonly ioTimeoutNs?: number;
  readonly adminTimeoutNs?: number;
  /** Times that a command is sent at most, over retries and resets. Default 5. */
  readonly attemptsMax?: number;
  /** Who makes protection information for bios without. Default: the controller where it can. */
  readonly integrityPolicy?: IntegrityPolicy;
  readonly tracer?: Tracer;
}

export type ResolvedOptions = Required<NvmeOptions>;

/** Linux's limit as well; more than 8 MiB takes more than five list pages. */
const TRANSFER_BYTES_MAX = 8 * 1024 * 1024;
const SILENT = new Tracer(() => 0, 1);

/** Fills in defaults. Throws `bad-nvme-option`. */
export function resolveOptions(options: NvmeOptions): ResolvedOptions {
  const resolved: ResolvedOptions = {
    queueDepth: options.queueDepth ?? 256,
    ioQueues: options.ioQueues ?? 1,
    pageBytes: options.pageBytes ?? 4096,
    useCmbSqs: options.useCmbSqs ?? false,
    useCmb: options.useCmb ?? true,
    sglThreshold: options.sglThreshold ?? 32 * 1024,
    noSgl: options.noSgl ?? false,
    maxTransferBytes: options.maxTransferBytes ?? 2 * 1024 * 1024,
    maxSegments: options.maxSegments ?? 128,
    ioTimeoutNs: options.ioTimeoutNs ?? 30e9,
    adminTimeoutNs: options.adminTimeoutNs ?? 60e9,
    attemptsMax: options.attemptsMax ?? 5,
    integrityPolicy: options.integrityPolicy ?? IntegrityPolicy.controllerFirst,
    tracer: options.tracer ?? SILENT,
  };
  const check = (isRight: boolean, name: string, remedy: string): void => {
    if (isRight) return;
    throw new UsageError("bad-nvme-option", `NVMe option ${name} makes no sense`, { remedy });
  };
  const { queueDepth, ioQueues, pageBytes, maxTransferBytes } = resolved;
  check(queueDepth >= 2 && queueDepth <= 65_536, "queueDepth", "use 2 to 65536");
  check(
    ioQueues >= 1 && ioQueues <= NVME_DRIVER_QUEUES_MAX,
    "ioQueues",
    `use 1 to ${NVME_DRIVER_QUEUES_MAX}`,
  );
  check(isPowerOfTwo(pageBytes) && pageBytes >= 4096, "pageBytes", "use a power of two from 4096");
  check(
    maxTransferBytes >= pageBytes && maxTransferBytes <= TRANSFER_BYTES_MAX,
    "maxTransferBytes",
    "use one page to 8 MiB",
  );
  check(resolved.maxSegments >= 1, "maxSegments", "use at least 1");
  check(resolved.attemptsMax >= 1, "attemptsMax", "use at least 1");
  check(resolved.ioTimeoutNs > 0, "ioTimeoutNs", "use more than 0");
  return resolved;
}
