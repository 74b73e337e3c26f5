/**
 * The closed list of trace events. An event that is not here cannot be emitted; an event that
 * nobody emits fails a repository test. Arguments are numbers, named here for the exporters.
 */

export interface EventDef {
  readonly name: string;
  /** Names of the up to four numeric arguments. A name ending in `Bdf` or `Addr` is printed so. */
  readonly args: readonly string[];
  readonly text: string;
}

/** Event numbers. Add at the end; the order is the order in trace files. */
export const Event = {
  dmaRead: 0,
  dmaWrite: 1,
  dmaFailed: 2,
  nvmetConnect: 3,
  nvmetDisconnect: 4,
  nvmetProvider: 5,
  nvmetNoProvider: 6,
  nvmetFallback: 7,
  nvmetCommand: 8,
  nvmetComplete: 9,
  routeDecided: 10,
  interruptSent: 11,
  functionReset: 12,
  linkChanged: 13,
  iommuFault: 14,
  blockRequest: 15,
  blockDone: 16,
  nvmeSubmit: 17,
  nvmeComplete: 18,
  nvmeReset: 19,
  rdmaRun: 20,
  rdmaRetry: 21,
  rdmaQpError: 22,
  nvmetAuthentication: 23,
} as const;
export type Event = (typeof Event)[keyof typeof Event];

const def = (name: string, args: readonly string[], text: string): EventDef => ({
  name,
  args,
  text,
});

/** Indexed by event number. */
export const EVENTS: readonly EventDef[] = [
  def("fabric.dma_read", ["requesterBdf", "busAddr", "length"], "a DMA read was completed"),
  def("fabric.dma_write", ["requesterBdf", "busAddr", "length"], "a DMA write reached its target"),
  def("fabric.dma_failed", ["requesterBdf", "busAddr", "length", "status"], "a DMA failed"),
  def("nvmet.connect", ["cntlid", "qid", "sqSize"], "a host connected a queue"),
  def("nvmet.disconnect", ["cntlid", "qid"], "a queue of a host is gone"),
  def("nvmet.provider", ["nsid", "providerBdf", "nicBdf", "distance"], "peer memory was chosen"),
  def(
    "nvmet.no_provider",
    ["nsid", "nicBdf", "reason"],
    "no peer memory for a namespace set to it",
  ),
  def(
    "nvmet.fallback",
    ["nsid", "cause", "length", "toHostMemory"],
    "a request went without peer memory: refused, or served from host memory",
  ),
  def("nvmet.command", ["nsid", "opcode", "cid", "qid"], "a command arrived"),
  def("nvmet.complete", ["nsid", "opcode", "cid", "status"], "a command was answered"),
  def("fabric.route", ["requesterBdf", "busAddr", "status"], "a route was decided"),
  def("fabric.interrupt", ["requesterBdf", "busAddr", "data"], "an interrupt message was sent"),
  def("fabric.reset", ["functionBdf"], "a function level reset"),
  def("fabric.link", ["upperBdf", "isUp"], "a link went down or came up"),
  def("iommu.fault", ["requesterBdf", "dmaAddr", "isWrite", "reason"], "the IOMMU refused"),
  def("block.request", ["initiator", "op", "sector", "bytes"], "a request went to its driver"),
  def("block.done", ["initiator", "op", "sector", "status"], "a request ended"),
  def("nvme.submit", ["nsid", "qid", "cid", "opcode"], "the driver wrote a command to a ring"),
  def("nvme.complete", ["nsid", "qid", "cid", "status"], "the driver took a completion"),
  def("nvme.reset", ["functionBdf", "attempt"], "the driver resets its controller"),
  def("rdma.run", ["nicBdf", "kind", "psn", "bytes"], "packets of one message arrived at an RNIC"),
  def("rdma.retry", ["nicBdf", "qpn", "psn"], "an RNIC sends again from this PSN on"),
  def("rdma.qp_error", ["nicBdf", "qpn"], "a queue pair went to the error state"),
  def("nvmet.authentication", ["cntlid", "qid", "isGood"], "DH-HMAC-CHAP of a queue ended"),
];
