/** How the figures and cells of the comparison came about, and what they do not say. */

export const METHOD: readonly string[] = [
  "Registration: bytes are those of the arrays that the description made (not the provider's " +
    "pool, the same for all); the time includes that pool.",
  "Kernel: 64 bytes per 4 KiB page, the size of struct page on 64-bit Linux.",
  "CPU per I/O: median of rounds of one batch (the workload's depth) over 16 MiB, the five in " +
    "turns. Build takes hold of the memory (pin, lease count) and makes the bio; split/merge " +
    "cuts it to requests of 128 KiB and joins neighbours; map asks for an address per piece; " +
    "unmap gives it back and lets go. Total is build, map and unmap.",
  "Translated: how often an address was worked out for an initiator (route, bus offset, IOVA), " +
    "at opening + per I/O, counted in a batch of its own.",
  "IOMMU operations are counted by the IOVA domain of the initiator's group.",
  "What works: each cell is a run on the simulated fabric; the owner's side checks the bytes. " +
    "raid0, multipath and PI run our block queues and NVMe driver over NVMe controller models.",
  "raid0 and multipath: as the description's own stack passes features on (page: Linux, whose " +
    "stacked queues lack the peer-to-peer feature), then with the feature passed on to all.",
  "Landing: the bare address with nothing else changed; the place is the fabric's own route, and " +
    "the bytes were looked for there.",
];

export const LIMITS: readonly string[] = [
  "Times are of the wall clock: on a busy machine they differ by a factor of two from run to " +
    "run, and the order of close ones with them. `npm run bench` claims ratios.",
  "Under strict, allocating an IOVA and filling the simulated page table is most of map and " +
    "unmap. It is the same code for page, pfn and phys: where these three differ there, it is " +
    "the state of the process (each has a fabric of its own), not the description.",
  "JavaScript on a simulated fabric: compare the columns with each other, not with a kernel.",
  "Page entries beyond 2 GiB are not allocated: such a row is extrapolated and marked with ~.",
  "The simulated IOMMU's maps and flushes are function calls; hardware waits for a flush, so the " +
    "figures flatter page, pfn and phys under strict.",
  "pfn is device memory without pages, as the type was meant for; it has page's limits where its " +
    "frames have pages.",
];
