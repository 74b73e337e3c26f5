/**
 * Checks of the memory that is to be shared: size of the BAR and resizable BAR, the linear map, 2
 * MiB alignment, and whether an NVMe has a controller memory buffer that can be used.
 */

import { formatBdf, formatBytes } from "../../core/index.ts";
import { isUnknown, type PciFunction } from "../../machine/index.ts";
import {
  architectureOf,
  fitOf,
  isSectionAligned,
  kaslrLimit,
  mapsFor,
  physOf,
  ramBase,
} from "../pages.ts";
import { type SharedBar, sharedBar } from "../probe.ts";
import { type CheckResult, fail, ok, type Subject, unknown } from "./subject.ts";

const MIB = 2 ** 20;
/** The classic window; larger ones exist only with resizable BAR or on data centre GPUs. */
const SMALL_BAR_BYTES = 256 * MIB;

const ownersOf = ({ owners, functionAt }: Subject): PciFunction[] => owners.map(functionAt);

/** GPUs: is all of the memory behind the BAR? */
export function barSize(subject: Subject): CheckResult[] {
  const [id, title] = ["bar-size", "BAR size"];
  if (subject.use !== "gds" && subject.use !== "gdr") return [];
  const gpus = ownersOf(subject);
  if (gpus.length === 0) return [];
  const results: CheckResult[] = [];
  const fine: string[] = [];
  for (const fn of gpus) {
    const bar = sharedBar(fn);
    const name = formatBdf(fn.bdf);
    const grows = fn.resizableBars.find(
      ({ currentBytes, supportedBytes }) => Math.max(0, ...supportedBytes) > currentBytes,
    );
    if (bar === null && isUnknown(fn, "bars")) {
      const evidence = `${name}: its BARs are not in the dump`;
      results.push(unknown(id, title, evidence, "Take the dump by lspci -vvv -xxxx."));
    } else if (bar === null) {
      const evidence = `${name} has no memory BAR with an address: the firmware had no room for it`;
      results.push(fail(id, title, evidence, ABOVE_4G, "dmesg | grep -i 'BAR.*assign'"));
    } else if (bar.sizeBytes === null) {
      const evidence = `${name} BAR${bar.index}: the dump does not tell its size`;
      results.push(unknown(id, title, evidence, "Add lspci -vvv beside the hex dump."));
    } else if (grows !== undefined && grows.index === bar.index) {
      const most = Math.max(...grows.supportedBytes);
      const evidence =
        `${name} BAR${bar.index} has ${formatBytes(bar.sizeBytes)} of ` +
        `${formatBytes(most)} possible`;
      results.push(fail(id, title, evidence, REBAR, resizeCommand(name, bar, most)));
    } else if (bar.sizeBytes <= SMALL_BAR_BYTES && !isTold(fn)) {
      const evidence =
        `${name} BAR${bar.index} has ${formatBytes(bar.sizeBytes)}: only so much GPU ` +
        "memory can be " +
        "registered at a time";
      results.push(fail(id, title, evidence, REBAR));
    } else {
      fine.push(`${name} ${formatBytes(bar.sizeBytes)}`);
    }
  }
  results.sort((a, b) => Number(a.state === "unknown") - Number(b.state === "unknown"));
  if (results.length > 0) return results.slice(0, 1);
  return [ok(id, title, fine.slice(0, 3).join(", ") + (fine.length > 3 ? ", ..." : ""))];
}

const ABOVE_4G = "Turn on `Above 4G Decoding` in firmware setup.";
const REBAR =
  "Turn on `Resizable BAR` and `Above 4G Decoding` in firmware setup, or resize it while no " +
  "driver is bound.";

/** A GPU with the capability whose BAR is as large as it goes. */
const isTold = (fn: PciFunction): boolean => fn.resizableBars.length > 0;

function resizeCommand(name: string, bar: SharedBar, bytes: number): string {
  const power = Math.round(Math.log2(bytes / MIB));
  return `echo ${power} > /sys/bus/pci/devices/${name}/resource${bar.index}_resize`;
}

/** Memory that would be page-backed: GPUs for GPUDirect Storage, NVMe for nvmet. */
function pagedBars(subject: Subject): { fn: PciFunction; bar: SharedBar; sizeBytes: number }[] {
  if (subject.use !== "gds" && subject.use !== "nvmeof-cmb") return [];
  return ownersOf(subject).flatMap((fn) => {
    const bar = sharedBar(fn);
    const isMemory = subject.use === "gds" || (bar?.sizeBytes ?? 0) >= MIB;
    return bar === null || bar.sizeBytes === null || !isMemory
      ? []
      : [{ fn, bar, sizeBytes: bar.sizeBytes }];
  });
}

export function linearMap(subject: Subject): CheckResult[] {
  const [id, title] = ["linear-map", "linear map"];
  const { machine } = subject;
  const bars = pagedBars(subject);
  if (bars.length === 0) return [];
  const architecture = architectureOf(machine);
  const maps = mapsFor(architecture);
  const worst: CheckResult[] = [];
  for (const { fn, bar, sizeBytes } of bars) {
    const paged = { sizeBytes, phys: physOf(machine, fn, bar.address) };
    const name = `${formatBdf(fn.bdf)} BAR${bar.index}`;
    const answers = maps.map((map) => fitOf(paged, map, ramBase(machine.host)));
    const kaslr = kaslrLimit(machine.host, paged);
    if (kaslr !== null) {
      const evidence = `${name} ends above RAM and 10 TiB, where KASLR cut the map off`;
      worst.push(
        fail(id, title, evidence, "Boot with nokaslr, or run Linux 6.15 or later.", "nokaslr"),
      );
    } else if (answers.every(({ fit }) => fit === "does-not-fit")) {
      const evidence = `${name} ${answers[0].text} (${answers[0].map.title})`;
      worst.push(
        fail(id, title, evidence, "Use a page-less path (dma-buf), or move the BAR lower."),
      );
    } else if (answers.some(({ fit }) => fit !== "fits")) {
      const open = answers.find(({ fit }) => fit !== "fits");
      const evidence = `${name}: ${open?.map.title}: ${open?.text}`;
      worst.push(unknown(id, title, evidence, "Add /proc/cpuinfo and /proc/iomem (as root)."));
    }
  }
  worst.sort((a, b) => Number(a.state === "unknown") - Number(b.state === "unknown"));
  if (worst.length > 0) return worst.slice(0, 1);
  const inside = maps.map((map) => map.title).join("; ");
  return [ok(id, title, `${bars.length} BARs fit: ${inside}`)];
}

export function alignment(subject: Subject): CheckResult[] {
  const [id, title] = ["alignment", "2 MiB alignment"];
  const bars = pagedBars(subject);
  if (bars.length === 0) return [];
  const odd = bars.filter(
    ({ bar, sizeBytes }) => !isSectionAligned({ sizeBytes, phys: bar.address }),
  );
  if (odd.length === 0) return [ok(id, title, `${bars.length} BARs begin and end at 2 MiB`)];
  const [{ fn, bar, sizeBytes }] = odd;
  return [
    fail(
      id,
      title,
      `${formatBdf(fn.bdf)} BAR${bar.index} has ${formatBytes(sizeBytes)}: page-backed ` +
        "memory comes in " +
        "2 MiB pieces, and since 2025 Linux skips what is not (a 512 KiB CMB is lost)",
      "Share it without pages (a dma-buf), where there is no such rule.",
    ),
  ];
}

/** What the kernel published, or what can be said from outside of the controller's registers. */
export function cmb(subject: Subject): CheckResult[] {
  const [id, title] = ["cmb", "controller memory buffer"];
  if (subject.use !== "nvmeof-cmb") return [];
  const disks = ownersOf(subject);
  if (disks.length === 0) return [];
  const published = disks.filter(({ p2pmem }) => p2pmem?.published === true);
  if (published.length > 0) {
    const [fn] = published;
    const size = formatBytes(fn.p2pmem?.sizeBytes ?? 0);
    const seen = `${published.length} published; ${formatBdf(fn.bdf)} p2pmem has ${size}`;
    return [ok(id, title, seen)];
  }
  const hidden = disks.find(({ p2pmem }) => p2pmem !== null);
  if (hidden !== undefined) {
    return [
      fail(
        id,
        title,
        `${formatBdf(hidden.bdf)} has p2pmem, not published: its CMBSZ has not both RDS and WDS`,
        "Use a drive whose CMB holds data in both directions (CMBSZ.RDS, CMBSZ.WDS).",
        "nvme show-regs -H /dev/nvme0 | grep -A9 -i cmbsz",
      ),
    ];
  }
  const room = disks.map((fn) => Math.max(0, ...fn.bars.map(({ sizeBytes }) => sizeBytes ?? 0)));
  const isSized = disks.every(
    (fn) => !isUnknown(fn, "bars") && fn.bars.every(({ sizeBytes }) => sizeBytes !== null),
  );
  if (isSized && Math.max(...room) < 2 * MIB) {
    return [
      fail(
        id,
        title,
        "no NVMe has a memory BAR of 2 MiB or more (the largest is " +
          `${formatBytes(Math.max(...room))}): ` +
          "there is no room for a CMB",
        "Use a drive with a CMB, or another provider (a GPU, a p2pmem card).",
      ),
    ];
  }
  const told = disks.every((fn) => isUnknown(fn, "p2pmem") || fn.p2pmem === null);
  return [
    unknown(
      id,
      title,
      told
        ? "CMBLOC and CMBSZ are in the controller's registers, which no PCI dump holds"
        : "no drive publishes peer memory",
      "Read them, or capture the machine (p2pmem tells).",
      "nvme show-regs -H /dev/nvme0 | grep -i cmb",
    ),
  ];
}
