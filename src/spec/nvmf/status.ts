/**
 * Status codes that only Fabrics commands return. They are Command Specific (SCT 1h). NVM Express
 * Base Specification 2.0, figure "Status Code - Command Specific Status Values, Fabrics Commands";
 * generic codes are in spec/nvme.
 */

/** Status Code Type of the codes below. */
export const FABRICS_SCT = 1;

export const FabricsSc = {
  /** Connect: RECFMT is not supported. */
  CONNECT_INCOMPATIBLE_FORMAT: 0x80,
  /** Connect: the controller is already associated with a host. */
  CONNECT_CONTROLLER_BUSY: 0x81,
  /** Connect: a field is wrong; the response names it (IATTR, IPO). */
  CONNECT_INVALID_PARAMETERS: 0x82,
  /** Connect: the subsystem is not available here any more, discover again. */
  CONNECT_RESTART_DISCOVERY: 0x83,
  /** Connect: this host is not on the allow list. */
  CONNECT_INVALID_HOST: 0x84,
  /** Disconnect: the queue is not an I/O queue. */
  INVALID_QUEUE_TYPE: 0x85,
  /** Get Log Page of discovery: the log changed while it was read. */
  DISCOVER_RESTART: 0x90,
  AUTHENTICATION_REQUIRED: 0x91,
} as const;
export type FabricsSc = (typeof FabricsSc)[keyof typeof FabricsSc];

export const FABRICS_SC_NAMES: Readonly<Record<number, string>> = {
  128: "Connect Incompatible Format",
  129: "Connect Controller Busy",
  130: "Connect Invalid Parameters",
  131: "Connect Restart Discovery",
  132: "Connect Invalid Host",
  133: "Invalid Queue Type",
  144: "Discover Restart",
  145: "Authentication Required",
};
