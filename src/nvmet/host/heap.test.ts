/** What an I/O over several paths leaves on the heap: nothing, failovers included. */
import { expect, it } from "vitest";
import { bytesPerCall } from "../../../testing/heap.ts";
import { AnaState, NvmeStatus, NvmOpcode } from "../../spec/nvme/index.ts";
import {
  type HostCommand,
  type HostQueue,
  PathIo,
  PathLink,
  PathSet,
  SubmitStatus,
} from "../index.ts";

/** A queue that answers at the next `answer`: a path error for the first of every four. */
class EchoQueue {
  readonly channel = { ended: null };
  readonly hasRoom = true;
  private readonly ring: (HostCommand | null)[] = new Array<HostCommand | null>(64).fill(null);
  private count = 0;
  private taken = 0;
  readonly failing: boolean;

  constructor(failing: boolean) {
    this.failing = failing;
  }

  submit(command: HostCommand): number {
    this.ring[this.count++] = command;
    return SubmitStatus.ok;
  }

  answer(): void {
    const { count } = this;
    this.count = 0;
    for (let i = 0; i < count; i++) {
      const command = this.ring[i] as HostCommand;
      const isBad = this.failing && this.taken++ % 4 === 0;
      command.status = isBad ? NvmeStatus.internalPathError : NvmeStatus.success;
      command.owner.commandDone(command);
    }
  }
}

it("multipath I/O allocates nothing, whichever path it takes", () => {
  let now = 0;
  const set = new PathSet(() => now);
  const queues = [new EchoQueue(true), new EchoQueue(false)];
  for (const [i, queue] of queues.entries()) {
    const link = new PathLink(i);
    link.queues = [queue as unknown as HostQueue];
    link.isLive = true;
    set.links.push(link);
  }
  let done = 0;
  let failed = 0;
  const owner = {
    ioDone(io: PathIo): void {
      done++;
      if (io.status !== NvmeStatus.success) failed++;
    },
  };
  const ios = Array.from({ length: 16 }, () => new PathIo(owner));
  for (const io of ios) {
    io.opcode = NvmOpcode.read;
    io.nsid = 1;
  }
  const [bad, good] = queues as [EchoQueue, EchoQueue];
  const { ana } = set.links[0] as PathLink;
  const perIo = bytesPerCall(200_000, (calls) => {
    for (let i = 0; i < calls; i += 16) {
      now++;
      // What the ANA log would say: the path serves again.
      ana[1] = AnaState.optimized;
      for (let n = 0; n < 16; n++) set.submit(ios[n] as PathIo);
      while (set.busy > 0) {
        bad.answer();
        good.answer();
        set.pump();
      }
    }
  });
  expect(done).toBe(4 * 200_000);
  expect(failed).toBe(0);
  expect(set.resent).toBeGreaterThan(10_000);
  expect(perIo).toBeLessThan(1);
});
