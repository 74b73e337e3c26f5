/**
 * The fields of Identify Controller that only Fabrics use, and the properties that replace registers.
 * NVM Express Base Specification 2.0, figures "Identify Controller" (bytes 1792 to 1804) and
 * "Property Get".
 */

/** Offsets inside the 4096 bytes of Identify Controller. */
export const FabricsIdentify = {
  /** I/O Queue Command Capsule Supported Size, 4 bytes, in units of 16 bytes. */
  IOCCSZ: 1792,
  /** I/O Queue Response Capsule Supported Size, 4 bytes, in units of 16 bytes. */
  IORCSZ: 1796,
  /** In Capsule Data Offset, 2 bytes, in units of 16 bytes after the command. */
  ICDOFF: 1800,
  /** Fabrics Controller Attributes. Bit 0 clear: dynamic controller model. */
  FCATT: 1802,
  /** Maximum SGL Data Block Descriptors in a capsule; 0 is no limit. */
  MSDBD: 1803,
  /** Optional Fabrics Commands Support. Bit 0: Disconnect. */
  OFCS: 1804,
} as const;

/** Unit of IOCCSZ, IORCSZ and ICDOFF in bytes. */
export const CAPSULE_UNIT_BYTES = 16;

/** Offsets of properties, the same as the registers of the PCIe transport. */
export const Property = {
  /** 8 bytes. */
  CAP: 0x00,
  VS: 0x08,
  CC: 0x14,
  CSTS: 0x1c,
  NSSR: 0x20,
} as const;

/** Unit of the KAS field (Keep Alive granularity) in milliseconds. */
export const KEEP_ALIVE_UNIT_MS = 100;
/** Feature identifier of the Keep Alive Timer. */
export const KEEP_ALIVE_FEATURE = 0x0f;
/** Opcode of the Keep Alive command (Admin). */
export const KEEP_ALIVE_OPCODE = 0x18;
