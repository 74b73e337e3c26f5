/**
 * Opcodes. Admin: NVM Express Base 2.0, figure "Opcodes for Admin Commands" (section 5). I/O: NVM
 * Command Set 1.0, figure "Opcodes for NVM Commands" (section 3). Fabrics commands share opcode 7Fh
 * on both kinds of queue; their types are in spec/nvmf.
 */

export const AdminOpcode = {
  deleteIoSq: 0x00,
  createIoSq: 0x01,
  getLogPage: 0x02,
  deleteIoCq: 0x04,
  createIoCq: 0x05,
  identify: 0x06,
  abort: 0x08,
  setFeatures: 0x09,
  getFeatures: 0x0a,
  asyncEventRequest: 0x0c,
  namespaceManagement: 0x0d,
  firmwareCommit: 0x10,
  firmwareImageDownload: 0x11,
  deviceSelfTest: 0x14,
  namespaceAttachment: 0x15,
  keepAlive: 0x18,
  directiveSend: 0x19,
  directiveReceive: 0x1a,
  virtualizationManagement: 0x1c,
  nvmeMiSend: 0x1d,
  nvmeMiReceive: 0x1e,
  capacityManagement: 0x20,
  lockdown: 0x24,
  doorbellBufferConfig: 0x7c,
  fabrics: 0x7f,
  formatNvm: 0x80,
  securitySend: 0x81,
  securityReceive: 0x82,
  sanitize: 0x84,
  getLbaStatus: 0x86,
} as const;
export type AdminOpcode = (typeof AdminOpcode)[keyof typeof AdminOpcode];

export const NvmOpcode = {
  flush: 0x00,
  write: 0x01,
  read: 0x02,
  writeUncorrectable: 0x04,
  compare: 0x05,
  writeZeroes: 0x08,
  datasetManagement: 0x09,
  verify: 0x0c,
  reservationRegister: 0x0d,
  reservationReport: 0x0e,
  reservationAcquire: 0x11,
  reservationRelease: 0x15,
  cancel: 0x18,
  copy: 0x19,
  fabrics: 0x7f,
} as const;
export type NvmOpcode = (typeof NvmOpcode)[keyof typeof NvmOpcode];

/** Opcode bits 1:0 (Base 2.0, figure "Opcodes for Admin Commands", column DTD). */
export const DataDirection = {
  none: 0,
  hostToController: 1,
  controllerToHost: 2,
  bidirectional: 3,
} as const;

/** How a command with this opcode moves data. Fabrics commands say it in FCTYPE instead. */
export const dataDirection = (opcode: number): number => opcode & 3;

function namesOf(table: Readonly<Record<string, number>>): (string | undefined)[] {
  const names: (string | undefined)[] = [];
  for (const [name, opcode] of Object.entries(table)) names[opcode] = name;
  return names;
}

const ADMIN_NAMES = namesOf(AdminOpcode);
const NVM_NAMES = namesOf(NvmOpcode);

/** `identify`, or `admin 0x42` when nobody defined it. */
export function adminOpcodeName(opcode: number): string {
  return ADMIN_NAMES[opcode] ?? `admin 0x${opcode.toString(16)}`;
}

/** `write`, or `nvm 0x42` when nobody defined it. */
export function nvmOpcodeName(opcode: number): string {
  return NVM_NAMES[opcode] ?? `nvm 0x${opcode.toString(16)}`;
}
