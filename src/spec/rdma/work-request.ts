/**
 * Work requests and their completions: opcodes, statuses, flags, with their names. InfiniBand
 * Architecture Specification Volume 1 (IBA) chapter 11, "Software transport verbs"; the numbers are
 * those of the public verbs ABI (libibverbs), so that traces read the same as on real machines.
 *
 * Leaves out: atomics, memory windows and the enhanced (masked) operations; their numbers are
 * listed where they share a table, so that a decoder can name them.
 */

/** What a send work request does. IBA 11.4.1.1 "Post Send Request". */
export const WrOpcode = {
  rdmaWrite: 0,
  rdmaWriteWithImm: 1,
  send: 2,
  sendWithImm: 3,
  rdmaRead: 4,
  /** Makes a memory region's key invalid; later work of this queue sees it invalid. */
  localInvalidate: 7,
  /** A SEND that invalidates one R_Key at the receiver before its RECV completes. */
  sendWithInvalidate: 9,
  /** Fast registration of a memory region made by `allocMr`. IBA 10.6.3.3. */
  fastRegister: 32,
} as const;
export type WrOpcode = (typeof WrOpcode)[keyof typeof WrOpcode];

export const WR_OPCODE_NAMES: Readonly<Record<number, string>> = {
  0: "RDMA_WRITE",
  1: "RDMA_WRITE_WITH_IMM",
  2: "SEND",
  3: "SEND_WITH_IMM",
  4: "RDMA_READ",
  5: "ATOMIC_CMP_AND_SWP",
  6: "ATOMIC_FETCH_AND_ADD",
  7: "LOCAL_INV",
  8: "BIND_MW",
  9: "SEND_WITH_INV",
  32: "REG_MR",
};

/** Flags of a send work request; sums. IBA 11.4.1.1. */
export const WrFlag = {
  /** Starts only when all earlier RDMA READs of this queue have completed. IBA 10.8.3.3. */
  fence: 1,
  /** A completion is written also on success (queues made with `signalAll` do it always). */
  signaled: 2,
  /** The receiver's completion counts as solicited. */
  solicited: 4,
} as const;

/** What a completion is about. Values of 128 and above are of the receive queue. */
export const WcOpcode = {
  send: 0,
  rdmaWrite: 1,
  rdmaRead: 2,
  localInvalidate: 6,
  fastRegister: 8,
  recv: 128,
  recvRdmaWithImm: 129,
} as const;
export type WcOpcode = (typeof WcOpcode)[keyof typeof WcOpcode];

export const WC_OPCODE_NAMES: Readonly<Record<number, string>> = {
  0: "SEND",
  1: "RDMA_WRITE",
  2: "RDMA_READ",
  3: "COMP_SWAP",
  4: "FETCH_ADD",
  5: "BIND_MW",
  6: "LOCAL_INV",
  8: "REG_MR",
  128: "RECV",
  129: "RECV_RDMA_WITH_IMM",
};

/** Flags of a completion; sums. */
export const WcFlag = {
  /** The global routing header lies in the first 40 bytes of the receive buffer (UD). */
  grh: 1,
  /** `immediate` is valid. */
  withImm: 2,
  /** `invalidatedRkey` is valid: the sender had it invalidated. */
  withInvalidate: 8,
} as const;

/** What became of a work request. IBA 11.6.2 "Completion return status". */
export const WcStatus = {
  success: 0,
  /** A message does not fit: longer than the RECV's buffers, or than a message may be. */
  localLengthError: 1,
  /** The queue pair itself could not process the request (bad request, DMA failure). */
  localQpOperationError: 2,
  localEeContextOperationError: 3,
  /** A local buffer is not covered by its L_Key: key, domain, bounds or rights. */
  localProtectionError: 4,
  /** The queue pair went to the error state before this request was processed. */
  workRequestFlushed: 5,
  memoryWindowBindError: 6,
  /** The responder answered something impossible. */
  badResponse: 7,
  localAccessError: 8,
  /** The responder could not make sense of the request, or had too small a RECV for it. */
  remoteInvalidRequest: 9,
  /** The responder's R_Key does not allow it: key, domain, bounds or rights. */
  remoteAccessError: 10,
  /** The responder failed on its own side: DMA failure, bad RECV. */
  remoteOperationError: 11,
  /** No answer after all transport retries: peer or path gone. */
  transportRetryExceeded: 12,
  /** The responder had no RECV after all RNR retries. */
  rnrRetryExceeded: 13,
  localRddViolation: 14,
  remoteInvalidRdRequest: 15,
  remoteAborted: 16,
  invalidEeContextNumber: 17,
  invalidEeContextState: 18,
  fatal: 19,
  responseTimeout: 20,
  generalError: 21,
} as const;
export type WcStatus = (typeof WcStatus)[keyof typeof WcStatus];

/** Indexed by {@link WcStatus}; words as the specification has them. */
export const WC_STATUS_NAMES: readonly string[] = [
  "success",
  "local length error",
  "local QP operation error",
  "local EE context operation error",
  "local protection error",
  "work request flushed error",
  "memory window bind error",
  "bad response error",
  "local access error",
  "remote invalid request error",
  "remote access error",
  "remote operation error",
  "transport retry counter exceeded",
  "RNR retry counter exceeded",
  "local RDD violation error",
  "remote invalid RD request",
  "remote aborted error",
  "invalid EE context number",
  "invalid EE context state",
  "fatal error",
  "response timeout error",
  "general error",
];

/** Rights of a memory region and of a queue pair's remote side; sums. IBA 11.2.7, 10.6.3.1. */
export const Access = {
  /** The device may write it for local work (RECV buffers, READ targets). Local read is implied. */
  localWrite: 1,
  /** Needs `localWrite` too. */
  remoteWrite: 2,
  remoteRead: 4,
} as const;
