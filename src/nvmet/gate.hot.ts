/**
 * What a controller may do to a namespace right now, as one number per binding: a bit for each
 * class of commands that would be refused. The data path tests it once per command; only a command
 * that is refused finds out why.
 *
 * Three things close the gate, all of the control plane: asymmetric access of the path,
 * reservations of other hosts, write protection. Whoever changes one of them writes its part and
 * calls `NamespaceBinding.closeGate`.
 *
 * Classes: NVM Command Set Specification 1.0, figure "Command Behavior in the Presence of a
 * Reservation" (Flush is in the write group there, and is no write to a protected namespace).
 */

import { NvmOpcode } from "../spec/nvme/index.ts";

/** Bits of a gate. */
export const GateClass = { read: 1, write: 2, flush: 4, reservation: 8 } as const;
/** Everything that names a namespace. */
export const GATE_ALL = 15;

/** By opcode; 0: an opcode that nobody refuses here, since there is no such command. */
export const GATE_CLASS = new Uint8Array(256);
GATE_CLASS[NvmOpcode.read] = GateClass.read;
GATE_CLASS[NvmOpcode.compare] = GateClass.read;
GATE_CLASS[NvmOpcode.verify] = GateClass.read;
GATE_CLASS[NvmOpcode.write] = GateClass.write;
GATE_CLASS[NvmOpcode.writeUncorrectable] = GateClass.write;
GATE_CLASS[NvmOpcode.writeZeroes] = GateClass.write;
GATE_CLASS[NvmOpcode.datasetManagement] = GateClass.write;
GATE_CLASS[NvmOpcode.copy] = GateClass.write;
GATE_CLASS[NvmOpcode.flush] = GateClass.flush;
GATE_CLASS[NvmOpcode.reservationRegister] = GateClass.reservation;
GATE_CLASS[NvmOpcode.reservationReport] = GateClass.reservation;
GATE_CLASS[NvmOpcode.reservationAcquire] = GateClass.reservation;
GATE_CLASS[NvmOpcode.reservationRelease] = GateClass.reservation;
