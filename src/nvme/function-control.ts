/**
 * What the driver does to its function's Command register (PCIe Base 6.0, 7.5.1.1.3): it answers
 * memory accesses and issues DMA while a driver has it, and issues none any more when nobody can
 * say what it is doing.
 */

import type { BackingFunction } from "../backing/interface.ts";
import { Command, Header } from "../spec/pcie/index.ts";

/** Memory Space Enable and Bus Master Enable. */
export function enableFunction(fn: BackingFunction): void {
  const command = fn.config.read16(Header.command);
  const wanted = Command.memorySpaceEnable.bits | Command.busMasterEnable.bits;
  fn.config.write16(Header.command, command | wanted);
}

/** From now on the function's memory requests go nowhere, whatever it tries. */
export function disableBusMaster(fn: BackingFunction): void {
  const command = fn.config.read16(Header.command);
  fn.config.write16(Header.command, command & ~Command.busMasterEnable.bits);
}
