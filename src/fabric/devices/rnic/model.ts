/**
 * A model RNIC: the registers of spec/rdma/rnic.ts in front, a wire behind, queue pairs between.
 *
 * Flow: a doorbell marks its queue pair as having work and asks the fabric for a step; a step lets
 * each such queue pair start up to `RNIC_BURST_MAX` work requests; runs from the wire are handled
 * when they arrive. Commands are carried out inside the write of the command register.
 *
 * Invariants: nothing is done while CTRL.EN is clear; DMA goes through the port alone, so a wrong
 * address fails as it does on hardware; reset forgets everything but the place on the wire.
 *
 * Leaves out: more than one port, partition keys other than the default, SR-IOV, atomics, shared
 * receive queues. In timed mode a message leaves when it is gathered (cut-through): its own DMA
 * read delays its completion, not its arrival.
 */

import { assert, Copier, PeerlaneError, type Tree } from "../../../core/index.ts";
import {
  formatGid,
  parseGid,
  RNIC_BAR_BYTES_MIN,
  RNIC_DOORBELL_BYTES,
  RNIC_DOORBELLS_OFFSET,
  RNIC_REGISTER_BYTES,
  RNIC_REGISTERS_OFFSET,
  RNIC_SIGNATURE,
  RNIC_SMALL_DOORBELLS_OFFSET,
  RNIC_SMALL_REGISTERS_OFFSET,
  RNIC_VERSION,
} from "../../../spec/rdma/index.ts";
import { Tracer } from "../../../trace/index.ts";
import type { BarRegion, DeviceModel, DevicePort } from "../../device.ts";
import { controlBarRegions } from "../control-bar.ts";
import { Answers } from "./answers.hot.ts";
import { CommandUnit } from "./commands.ts";
import { Dispatcher } from "./dispatcher.hot.ts";
import { DEFAULT_RNIC_LIMITS, Engine, type RnicLimits } from "./engine.hot.ts";
import { Doorbells, EventRing, type RnicParts, RnicRegisters } from "./register-file.ts";
import { Requester } from "./requester.hot.ts";
import { Responder } from "./responder.hot.ts";
import { SendQueue } from "./send-queue.hot.ts";
import type { Wire, WireEndpoint, WirePort, WireRun } from "./wire.ts";

export interface RnicModelOptions {
  /** Size of BAR0: decides where the registers lie. */
  readonly barBytes: number;
  readonly wire: Wire;
  /** `10.0.0.1`: its place on the wire. */
  readonly address: string;
  readonly limits?: Partial<RnicLimits>;
  /** The fabric's; one of its own when absent. */
  readonly copier?: Copier;
  /** The fabric's; one that is off when absent. */
  readonly tracer?: Tracer;
}

/** Everything that a reset replaces. */
interface Works {
  readonly engine: Engine;
  readonly dispatcher: Dispatcher;
  readonly commands: CommandUnit;
}

/** A BAR that holds registers and doorbells behind 64 KiB. */
const LARGE_BAR_BYTES = 0x20000;

export class RnicModel implements DeviceModel, WireEndpoint, RnicParts {
  readonly kind = "RNIC model";
  private readonly options: RnicModelOptions;
  private readonly gid: Uint8Array;
  private readonly limits: RnicLimits;
  private readonly copier: Copier;
  private readonly tracer: Tracer;
  private port: DevicePort | null = null;
  private wirePort: WirePort | null = null;
  private works: Works | null = null;
  private registers: RnicRegisters | null = null;
  private doorbells: Doorbells | null = null;
  private events: EventRing | null = null;

  /** Throws `rnic-bar` when BAR0 is too small, `bad-address` when the address is none. */
  constructor(options: RnicModelOptions) {
    if (options.barBytes < RNIC_BAR_BYTES_MIN) {
      throw new PeerlaneError("rnic-bar", `BAR0 of ${options.barBytes} bytes is too small`, {
        remedy: `an RNIC model needs a BAR0 of ${RNIC_BAR_BYTES_MIN} bytes or more`,
      });
    }
    this.options = options;
    this.gid = parseGid(options.address);
    this.limits = { ...DEFAULT_RNIC_LIMITS, ...options.limits };
    this.copier = options.copier ?? new Copier();
    this.tracer = options.tracer ?? new Tracer(() => 0, 1);
  }

  attach(port: DevicePort): void {
    assert(this.port === null, "a model is attached once");
    this.port = port;
    this.wirePort = this.options.wire.attach(this.gid, this, port);
    this.events = new EventRing(port);
    this.works = this.build(port, this.wirePort, this.events);
    this.registers = new RnicRegisters(this, this.events);
    this.doorbells = new Doorbells(this);
  }

  private build(port: DevicePort, wire: WirePort, events: EventRing): Works {
    const engine = new Engine(port, wire, this.copier, this.limits, events, this.tracer);
    const queue = new SendQueue(engine);
    const requester = new Requester(engine, queue);
    const responder = new Responder(engine);
    const answers = new Answers(engine, queue);
    const dispatcher = new Dispatcher(engine, queue, requester, responder, answers);
    return { engine, dispatcher, commands: new CommandUnit(engine) };
  }

  private get attached(): Works {
    assert(this.works !== null, "a model is used after attach");
    return this.works;
  }

  get engine(): Engine {
    return this.attached.engine;
  }

  get commands(): CommandUnit {
    return this.attached.commands;
  }

  barRegions(): readonly BarRegion[] {
    assert(this.registers !== null && this.doorbells !== null, "regions are asked after attach");
    const large = this.options.barBytes >= LARGE_BAR_BYTES;
    return controlBarRegions({
      signature: RNIC_SIGNATURE,
      version: RNIC_VERSION,
      registersAt: large ? RNIC_REGISTERS_OFFSET : RNIC_SMALL_REGISTERS_OFFSET,
      registerBytes: RNIC_REGISTER_BYTES,
      registers: this.registers,
      doorbellsAt: large ? RNIC_DOORBELLS_OFFSET : RNIC_SMALL_DOORBELLS_OFFSET,
      doorbellBytes: RNIC_DOORBELL_BYTES,
      doorbells: this.doorbells,
    });
  }

  step(): void {
    if (this.works !== null) this.works.dispatcher.step();
  }

  receive(run: WireRun): void {
    if (this.works !== null) this.works.dispatcher.receive(run);
  }

  setEnabled(enabled: boolean): void {
    this.attached.dispatcher.enabled = enabled;
    if (this.doorbells !== null) this.doorbells.enabled = enabled;
  }

  resetAll(): void {
    this.reset();
  }

  reset(): void {
    if (this.port === null || this.wirePort === null || this.events === null) return;
    // Timers and loans of the old works find nothing there any more.
    this.attached.engine.abandon();
    this.events.clear();
    this.works = this.build(this.port, this.wirePort, this.events);
    this.registers?.clear();
    if (this.doorbells !== null) this.doorbells.enabled = false;
  }

  inspect(): Tree {
    const { engine, dispatcher } = this.attached;
    const present = <T>(items: readonly (T | null)[]): T[] =>
      items.filter((item): item is T => item !== null);
    return {
      kind: this.kind,
      address: formatGid(this.gid),
      enabled: dispatcher.enabled,
      commandsDone: this.registers?.commandsDone ?? 0,
      doorbellsRung: this.doorbells?.rung ?? 0,
      completionsWritten: engine.completions.written,
      retransmissions: engine.retransmissions,
      rnrNaksReceived: engine.rnrNaks,
      runsDropped: dispatcher.dropped,
      bytesStaged: engine.transfer.stagedBytes,
      eventsLost: this.events?.lost ?? false,
      regions: engine.regions.list().map((region) => region.inspect()),
      completionQueues: present(engine.cqs).map((cq) => cq.inspect()),
      queuePairs: present(engine.qps).map((qp) => qp.inspect()),
      wire: this.wirePort?.inspect() ?? null,
    };
  }
}
