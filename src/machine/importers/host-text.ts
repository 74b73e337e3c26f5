/**
 * Text of a host beside its lspci dump: /proc/cpuinfo, the kernel command line, `uname -a`, iomem,
 * in one file or several, in any order. It completes a machine and cannot be one.
 *
 * Invariant: a line is read as what it can only be; what is none of these is skipped.
 */

import { PeerlaneError } from "../../core/index.ts";
import type { MachinePart } from "../assemble.ts";
import {
  type HostFacts,
  mergeHostFacts,
  parseBootLog,
  parseCpuinfo,
  parseIomem,
  parseKernelVersion,
  redactCommandLine,
} from "../host-facts.ts";

const CPU_LINE = /^(?:vendor_id|cpu family|model name|CPU implementer|CPU part)\s*:/m;
const IOMEM_LINE = /^ *[0-9a-f]{8,16}-[0-9a-f]{8,16} : \S/m;
const UNAME_LINE = /^Linux \S+ (\d\S*) .*?(x86_64|aarch64|ppc64le|riscv64|s390x|i686)\b.*$/m;
const BOOT_LINE = /^(?:\[ *\d+\.\d+\] )?(?:Linux version |pci_bus [0-9a-f]{4}:)/m;
/** What a kernel command line begins with, and what it has, and no other text does. */
const COMMAND_LINE_STARTS = /^(?:BOOT_IMAGE=|root=|ro |rw |quiet|console=|initrd=)/m;
const COMMAND_LINE_HAS = /\b(?:intel_iommu|amd_iommu|iommu|pci)=/;

export function isHostText(head: string): boolean {
  const patterns = [CPU_LINE, IOMEM_LINE, UNAME_LINE, BOOT_LINE, COMMAND_LINE_STARTS];
  return patterns.some((pattern) => pattern.test(head));
}

function commandLineOf(text: string): string | null {
  for (const line of text.split("\n")) {
    if (line.includes(" : ") || line.startsWith("[") || /^\S[^=]*\t:/.test(line)) continue;
    if (COMMAND_LINE_STARTS.test(line) || COMMAND_LINE_HAS.test(line))
      return redactCommandLine(line);
  }
  return null;
}

/**
 * Reads a host's text.
 * @throws PeerlaneError `not-host-text` when nothing in it is known
 */
export function parseHostText(text: string, file: string): MachinePart {
  const facts: HostFacts[] = [parseCpuinfo(text)];
  const uname = UNAME_LINE.exec(text);
  if (uname !== null) {
    facts.unshift({ kernelVersion: uname[1] as string, architecture: uname[2] as string });
  }
  const version = parseKernelVersion(text);
  if (version !== null) facts.push({ kernelVersion: version });
  const boot = parseBootLog(text);
  const { rootBuses: bootBuses, ...bootFacts } = boot;
  facts.push(bootFacts);
  const commandLine = bootFacts.kernelCommandLine == null ? commandLineOf(text) : null;
  if (commandLine !== null) facts.push({ kernelCommandLine: commandLine });
  const iomem = parseIomem(text);
  if (iomem.ram.length > 0 && !iomem.hidden) facts.push({ ram: iomem.ram });
  const warnings = iomem.hidden
    ? [`${file}: iomem was read without root, so all its addresses are zero`]
    : [];
  const host = mergeHostFacts(...facts);
  const rootBuses = [
    ...bootBuses,
    ...(iomem.hidden || bootBuses.length > 0 ? [] : iomem.rootBuses),
  ];
  if (Object.keys(host).length === 0 && rootBuses.length === 0) {
    throw new PeerlaneError("not-host-text", "no line is of cpuinfo, uname, iomem or a boot log", {
      place: `${file}:1`,
      remedy: "give /proc/cpuinfo, /proc/cmdline, uname -a or /proc/iomem of the machine",
    });
  }
  return {
    source: { file, format: "host-text" },
    functions: [],
    hostBridges: null,
    host,
    rootBuses,
    warnings,
  };
}
