/** Map types: apart from types.ts, so that the reasons can say which map type follows. */

/** How a peer's memory is mapped for a client. Linux drivers/pci/p2pdma.c, numbered alike. */
export const MapType = {
  /** Not evaluated yet. */
  unknown: 0,
  /** Not peer memory. */
  none: 1,
  notSupported: 2,
  /** The client uses the bus address: a switch (or the function itself) routes it. */
  busAddr: 3,
  /**
   * The client uses what host memory at that physical address would need: an IOVA, or the address.
   */
  thruHostBridge: 4,
} as const;
export type MapType = (typeof MapType)[keyof typeof MapType];

export type MapTypeName = "UNKNOWN" | "NONE" | "NOT_SUPPORTED" | "BUS_ADDR" | "THRU_HOST_BRIDGE";

/** Indexed by {@link MapType}. */
export const MAP_TYPE_NAMES: readonly MapTypeName[] = [
  "UNKNOWN",
  "NONE",
  "NOT_SUPPORTED",
  "BUS_ADDR",
  "THRU_HOST_BRIDGE",
];
