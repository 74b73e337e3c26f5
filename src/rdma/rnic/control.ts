/**
 * The control path to a model RNIC: finds its registers, sends commands through the mailbox, waits
 * for them on the machine's clock.
 *
 * Invariants: one command at a time; every failure names command and status. Leaves out: interrupts
 * for command completion (commands of the model are done when the register write returns; a slower
 * device is polled).
 */

import type { DriverClock, MappedRegion } from "../../backing/interface.ts";
import {
  decodeLayout,
  encodeLayout,
  formatBdf,
  highHalf,
  type Layout,
  type LayoutValue,
  type LayoutValues,
  lowHalf,
  PeerlaneError,
} from "../../core/index.ts";
import type { DmaBuffer, DmaDevice } from "../../dma/index.ts";
import {
  MAILBOX_BYTES,
  MAILBOX_OUTPUT,
  ONE_OBJECT_IN,
  ONE_OBJECT_OUT,
  RNIC_COMMAND_STATUS_NAMES,
  RNIC_SIGNATURE,
  RNIC_VERSION,
  RnicCmdSts,
  RnicCommand,
  RnicCommandStatus,
  RnicCtrl,
  RnicHeader,
  RnicReg,
  RnicStatus,
} from "../../spec/rdma/index.ts";

const ALL_ONES = 0xffffffff;
/** Command register of configuration space and its bits. PCI Express Base 6.x, 7.5.1.1.3. */
const COMMAND = 0x04;
const MEMORY_SPACE_AND_BUS_MASTER = 0x6;
/** How long a command may take, and how often it is looked at. */
const COMMAND_POLL_NS = 1000;
const COMMAND_POLLS_MAX = 1_000_000;

const COMMAND_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(RnicCommand).map(([name, opcode]) => [opcode, name]),
);

export class RnicControl {
  readonly doorbells: MappedRegion;
  readonly doorbellsAt: number;
  private readonly dma: DmaDevice;
  private readonly clock: DriverClock;
  private readonly region: MappedRegion;
  private readonly registersAt: number;
  private readonly mailbox: DmaBuffer;
  private last: Promise<unknown> = Promise.resolve();

  /** Finds and enables the device. Throws `no-rnic` when BAR0 is not one of this interface. */
  constructor(dma: DmaDevice) {
    this.dma = dma;
    this.clock = dma.fn.machine.clock;
    const { config } = dma.fn;
    config.write16(COMMAND, config.read16(COMMAND) | MEMORY_SPACE_AND_BUS_MASTER);
    const region = dma.fn.mapBar(0);
    const signature = region.read32(RnicHeader.signature);
    if (signature !== RNIC_SIGNATURE || region.read32(RnicHeader.version) !== RNIC_VERSION) {
      throw new PeerlaneError("no-rnic", "the function is not an RNIC that this driver knows", {
        place: formatBdf(dma.bdf),
        remedy: "put an RNIC model behind it; drivers of real RNICs are another backing",
        details: { signature },
      });
    }
    this.region = region;
    this.registersAt = region.read32(RnicHeader.registers);
    this.doorbellsAt = region.read32(RnicHeader.doorbells);
    this.doorbells = region;
    this.write(RnicReg.CTRL, RnicCtrl.reset.bits);
    this.write(RnicReg.CTRL, RnicCtrl.enable.bits);
    if (RnicStatus.ready.get(this.read(RnicReg.STATUS)) !== 1) {
      throw new PeerlaneError("rdma-not-ready", "the RNIC did not become ready", {
        place: formatBdf(dma.bdf),
        remedy: "look at STATUS, and at Memory Space Enable of the bridges above it",
      });
    }
    this.mailbox = dma.allocCoherent(MAILBOX_BYTES);
    this.write(RnicReg.MBOXLO, lowHalf(this.mailbox.dma));
    this.write(RnicReg.MBOXHI, highHalf(this.mailbox.dma));
  }

  read(register: number): number {
    return this.region.read32(this.registersAt + register);
  }

  write(register: number, value: number): void {
    this.region.write32(this.registersAt + register, value);
  }

  /** The mailbox page, for lists that travel with a command. Fill it inside {@link command}. */
  get mailboxBytes(): Uint8Array {
    return this.mailbox.bytes;
  }

  get mailboxAddress(): number {
    return this.mailbox.dma;
  }

  /**
   * Sends a command and gives its output. `prepare` runs when the mailbox is this command's, for
   * data beside the input. Throws `rdma-command` (`details.status`), `rdma-gone`, `rdma-timeout`.
   */
  command(
    opcode: number,
    layout: Layout,
    input: LayoutValues,
    output: Layout | null = null,
    prepare: (() => void) | null = null,
  ): Promise<Record<string, LayoutValue>> {
    const turn = this.last.then(() => this.run(opcode, layout, input, output, prepare));
    // The next command goes on whatever became of this one.
    this.last = turn.catch(() => undefined);
    return turn;
  }

  private async run(
    opcode: number,
    layout: Layout,
    input: LayoutValues,
    output: Layout | null,
    prepare: (() => void) | null,
  ): Promise<Record<string, LayoutValue>> {
    encodeLayout(layout, input, this.mailbox.bytes);
    prepare?.();
    this.write(RnicReg.CMD, opcode);
    for (let i = 0; i < COMMAND_POLLS_MAX; i++) {
      const status = this.read(RnicReg.CMDSTS);
      if (status === ALL_ONES) throw this.gone();
      if (RnicCmdSts.busy.get(status) === 0) {
        this.check(opcode, status);
        return output === null ? {} : decodeLayout(output, this.mailbox.bytes, MAILBOX_OUTPUT);
      }
      await this.clock.sleep(COMMAND_POLL_NS);
    }
    throw new PeerlaneError("rdma-timeout", `${nameOf(opcode)} did not finish`, {
      place: formatBdf(this.dma.bdf),
      remedy: "reset the device",
    });
  }

  private check(opcode: number, status: number): void {
    const code = RnicCmdSts.code.get(status);
    if (code === RnicCommandStatus.ok) return;
    const detail = RnicCmdSts.detail.get(status);
    throw new PeerlaneError(
      code === RnicCommandStatus.noResources ? "rdma-resources" : "rdma-command",
      `${nameOf(opcode)}: ${RNIC_COMMAND_STATUS_NAMES[code] ?? code}`,
      {
        place: formatBdf(this.dma.bdf),
        details: { command: nameOf(opcode), status: code, detail },
      },
    );
  }

  private gone(): PeerlaneError {
    return new PeerlaneError("rdma-gone", "the RNIC answers with all ones", {
      place: formatBdf(this.dma.bdf),
      remedy: "check the link and Memory Space Enable; attach again after a reset",
    });
  }

  /** A command that makes an object out of `input`: its number or key. */
  async create(
    opcode: number,
    layout: Layout,
    input: LayoutValues,
    prepare: (() => void) | null = null,
  ): Promise<number> {
    const output = await this.command(opcode, layout, input, ONE_OBJECT_OUT, prepare);
    return output["number"] as number;
  }

  /** A command about one object. */
  async about(opcode: number, number: number): Promise<void> {
    await this.command(opcode, ONE_OBJECT_IN, { number });
  }

  /** Stops the device and frees the mailbox. */
  close(): void {
    this.write(RnicReg.CTRL, RnicCtrl.reset.bits);
    this.dma.freeCoherent(this.mailbox);
  }
}

function nameOf(opcode: number): string {
  return COMMAND_NAMES[opcode] ?? `command ${opcode}`;
}
