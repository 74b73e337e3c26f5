import { ArenaMemory, RamDisk } from "../../testing/block-arena.ts";
import { blockContract } from "../../testing/block-contract.ts";
import { QueueFeature, QueueLimits, RequestQueue } from "./index.ts";

const ALL = 0x7f;

function open(limits: QueueLimits) {
  return async () => {
    const memory = new ArenaMemory(4 * 1024 * 1024);
    const disk = new RamDisk({ sizeBytes: 16 * 1024 * 1024, memories: [memory] });
    disk.limits = limits;
    disk.records = false;
    const queue = new RequestQueue(disk, {
      name: "ram",
      limits,
      initiator: 1,
      capacityBytes: disk.data.length,
      depth: 32,
    });
    return { queue, memory, bytes: memory.data, poll: () => queue.poll(), close: async () => {} };
  };
}

blockContract(
  "RAM disk with the limits of PRPs",
  open(
    new QueueLimits({
      maxBytes: 256 * 1024,
      maxSegments: 33,
      virtBoundary: 4096,
      dmaAlignment: 4,
      segmentBoundary: 2 ** 52,
      maxDiscardBytes: 2 ** 31,
      maxWriteZeroesBytes: 1024 * 1024,
      features: ALL,
    }),
  ),
);

blockContract(
  "RAM disk with small segments, chunks and few features",
  open(
    new QueueLimits({
      logicalBlockBytes: 4096,
      maxBytes: 64 * 1024,
      maxSegments: 5,
      maxSegmentBytes: 12_288,
      segmentBoundary: 16_384,
      dmaAlignment: 4,
      chunkBytes: 32_768,
      features: QueueFeature.writeCache,
    }),
  ),
);
