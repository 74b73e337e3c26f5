/**
 * A remote host that keeps a number of commands in flight against a rig: what benchmarks, heap
 * tests and profiles run. Allocates nothing per I/O.
 */

import { assert } from "../src/core/index.ts";
import {
  type CommandOwner,
  HostCommand,
  type HostQueue,
  SubmitStatus,
} from "../src/nvmet/index.ts";
import { NvmOpcode } from "../src/spec/nvme/index.ts";
import { BLOCK_BYTES } from "./nvmet-harness.ts";
import { type RigOptions, type TargetRig, targetRig } from "./target-rig.ts";

export interface LoadOptions extends RigOptions {
  /** Commands in flight. Default 32. */
  readonly depth?: number;
  /** Bytes per command. Default 4096. */
  readonly bytes?: number;
  readonly opcode?: number;
}

/** Where the load writes, over and over: small enough for a CPU's cache to hold. */
const SPAN_BYTES = 1024 * 1024;

export class WriteLoad implements CommandOwner {
  readonly rig: TargetRig;
  private readonly queue: HostQueue;
  private readonly commands: HostCommand[] = [];
  private readonly blocks: number;
  private toSubmit = 0;
  private done = 0;
  private nextLba = 0;
  private readonly lbaLimit: number;

  private constructor(rig: TargetRig, queue: HostQueue, blocks: number) {
    this.rig = rig;
    this.queue = queue;
    this.blocks = blocks;
    this.lbaLimit = SPAN_BYTES / BLOCK_BYTES;
  }

  static async open(options: LoadOptions = {}): Promise<WriteLoad> {
    const { depth = 32, bytes = 4096 } = options;
    const rig = await targetRig(options);
    const host = rig.host({ depth: 2 * depth });
    await rig.settle(host.connect());
    const data = await rig.settle(rig.data(host, depth * bytes));
    const load = new WriteLoad(rig, host.queues[0], bytes / BLOCK_BYTES);
    for (let i = 0; i < depth; i++) {
      const command = new HostCommand(load);
      command.opcode = options.opcode ?? NvmOpcode.write;
      command.nsid = 1;
      command.setData(data.buffer, i * bytes, bytes);
      load.commands.push(command);
    }
    return load;
  }

  commandDone(command: HostCommand): void {
    assert(command.status === 0, "a command of the load succeeds");
    this.done++;
    if (this.toSubmit > 0) this.submit(command);
  }

  private submit(command: HostCommand): void {
    this.toSubmit--;
    command.setRange(this.nextLba, this.blocks, false);
    this.nextLba += this.blocks;
    if (this.nextLba >= this.lbaLimit) this.nextLba = 0;
    const status = this.queue.submit(command);
    assert(status === SubmitStatus.ok, "a load has room for its commands");
  }

  /** Runs `count` commands to their end. */
  run(count: number): void {
    this.toSubmit = count;
    this.done = 0;
    for (let i = 0; i < this.commands.length && this.toSubmit > 0; i++) {
      this.submit(this.commands[i]);
    }
    this.queue.kick();
    const { reactor } = this.rig;
    while (this.done < count) reactor.round();
  }
}
