/** The states of a request of the target: who has it now. */

/** Who has a request. */
export const RequestState = {
  idle: 0,
  /** Waits for buffer memory in its queue's list. */
  waiting: 1,
  /** The transport moves data from the host. */
  fetching: 2,
  /** The block queue or an admin handler has it. */
  executing: 3,
  /** Waits for something that may never come: an event, the other half of a fused pair. */
  parked: 4,
  /** The transport sends data and the response. */
  responding: 5,
  /** Its namespace is another's for a moment (exclusive.hot.ts). */
  held: 6,
  /** The transport reads the data from a store as it sends it. */
  reading: 7,
} as const;
export type RequestState = (typeof RequestState)[keyof typeof RequestState];

export const REQUEST_STATE_NAMES: readonly string[] = [
  "idle",
  "waiting",
  "fetching",
  "executing",
  "parked",
  "responding",
  "held",
  "reading",
];
