/**
 * What hosts may use of a target, as its configuration says: connections, bytes, times. The bounds
 * of these bounds are in core/limits.ts.
 */

import { z } from "zod";
import {
  NVMET_CONNECT_TIMEOUT_MS,
  NVMET_CONNECTION_BYTES,
  NVMET_IN_FLIGHT_BYTES,
  NVMET_STALL_TIMEOUT_MS,
  NVMET_TRANSFER_TIMEOUT_MS,
  TCP_CONNECTIONS_MAX,
  TCP_ICREQ_TIMEOUT_MS,
} from "../../core/index.ts";

const whole = (low: number, high: number) => z.number().int().min(low).max(high);
const HOUR_MS = 3_600_000;

export const limitsSchema = z.strictObject({
  max_connections: whole(2, TCP_CONNECTIONS_MAX)
    .default(TCP_CONNECTIONS_MAX)
    .describe("connections of one port; each is one queue"),
  max_in_flight_bytes: whole(2 ** 20, 2 ** 32)
    .default(NVMET_IN_FLIGHT_BYTES)
    .describe("bytes of payload in buffers at once, over all connections"),
  max_connection_bytes: whole(2 ** 16, 2 ** 32)
    .default(NVMET_CONNECTION_BYTES)
    .describe("the same of one connection, which has half of what is free at most"),
  icreq_timeout_ms: whole(10, HOUR_MS)
    .default(TCP_ICREQ_TIMEOUT_MS)
    .describe("a connection without an ICReq, or on its way through TLS, for so long is closed"),
  connect_timeout_ms: whole(10, HOUR_MS)
    .default(NVMET_CONNECT_TIMEOUT_MS)
    .describe("a connection without a Connect command for so long is closed"),
  stall_timeout_ms: whole(10, HOUR_MS)
    .default(NVMET_STALL_TIMEOUT_MS)
    .describe(
      "a connection whose host moves no byte of data it asked for or owes, for so long or for " +
        "its Keep Alive Timeout if that is longer, is closed",
    ),
  transfer_timeout_ms: whole(10, HOUR_MS)
    .default(NVMET_TRANSFER_TIMEOUT_MS)
    .describe("a connection where the data of one command takes so long is closed"),
});
