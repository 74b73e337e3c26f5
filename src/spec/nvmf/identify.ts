/**
 * Units that Fabrics adds to Identify Controller and to the Keep Alive Timer. The fields themselves
 * are in spec/nvme; properties have the offsets of its registers. NVM Express Base Specification
 * 2.0, figures "Identify Controller" and "Keep Alive Timer".
 */

/** Unit of IOCCSZ, IORCSZ and ICDOFF in bytes. */
export const CAPSULE_UNIT_BYTES = 16;

/** Unit of the KAS field (Keep Alive granularity) in milliseconds. */
export const KEEP_ALIVE_UNIT_MS = 100;
