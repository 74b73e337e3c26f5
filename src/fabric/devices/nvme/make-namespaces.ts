/**
 * From the options of a controller model to its namespaces: a store, a checked format, an identity
 * that depends on nothing but the serial number and the NSID unless one is given.
 */

import { UsageError } from "../../../core/index.ts";
import { PiType } from "../../../spec/nvme/index.ts";
import {
  deriveIdentity,
  findFormat,
  LBA_FORMATS,
  Namespace,
  type NamespaceFormat,
  whyNotFormat,
} from "./namespace.ts";
import type { NvmeConfig, NvmeNamespaceOptions } from "./options.ts";
import { MemoryStore } from "./store.hot.ts";

/** The namespaces that options ask for. Throws {@link UsageError} for an impossible format. */
export function makeNamespaces(
  wanted: readonly NvmeNamespaceOptions[],
  config: NvmeConfig,
): Namespace[] {
  return wanted.map((options, index) => makeNamespace(options, index + 1, config));
}

/** One of them. Throws {@link UsageError} for an impossible format. */
export function makeNamespace(
  options: NvmeNamespaceOptions,
  nsid: number,
  config: NvmeConfig,
): Namespace {
  const format = formatOf(options, nsid);
  const store = options.store ?? new MemoryStore(options.sizeBytes ?? 0, config.copier);
  const identity = options.identity ?? deriveIdentity(config.serial, nsid);
  const { readOnly = store.readOnly, shared = false } = options;
  return new Namespace(nsid, store, format, identity, { readOnly, shared });
}

function formatOf(options: NvmeNamespaceOptions, nsid: number): NamespaceFormat {
  const lbaBytes = options.lbaBytes ?? 512;
  const metadataBytes = options.metadataBytes ?? 0;
  const format: NamespaceFormat = {
    formatIndex: findFormat(lbaBytes, metadataBytes),
    extended: options.extended ?? false,
    piType: options.piType ?? PiType.none,
    piFirst: options.piFirst ?? false,
  };
  const problem = whyNotFormat(format);
  if (problem === null) return format;
  const known = LBA_FORMATS.map((lba) => `${lba.lbaBytes}+${lba.metadataBytes}`).join(", ");
  throw new UsageError("nvme-namespace-format", `namespace ${nsid}: ${problem}`, {
    remedy: `LBA formats (data+metadata bytes) are ${known}`,
    details: { nsid, lbaBytes, metadataBytes, piType: format.piType },
  });
}
