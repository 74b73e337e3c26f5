/**
 * Every limit of the project in one place: queue depths, list lengths, loop bounds, memory. Rooms
 * import what they need; nobody writes a bound of their own. Relations between limits are asserted
 * when the module loads.
 */

/** Bridges between a root bus and an endpoint. PCIe switches nest a handful deep. */
export const BRIDGE_DEPTH_MAX = 32;
/** Functions in one machine. The largest dump known has about 1,500. */
export const MACHINE_FUNCTIONS_MAX = 65_536;
/** Bytes of one input file (dumps with 4 KiB hex run to a few MiB). */
export const INPUT_FILE_BYTES_MAX = 256 * 1024 * 1024;
/** Warnings that one import keeps; what comes on top is counted. */
export const IMPORT_WARNINGS_MAX = 100;
/** Capabilities in one list: 256 bytes hold at most 48 of 4 bytes after the header. */
export const CAPABILITIES_MAX = 48;
/** Extended capabilities: (4096 - 256) / 4 is the hard bound on a list without loops. */
export const EXTENDED_CAPABILITIES_MAX = 960;
/** Free runs of one allocator (IOVA space, peer memory pool): a bound on fragmentation. */
export const FREE_RUNS_MAX = 1024 * 1024;
/** Freed runs of one size that an allocator keeps ready, instead of joining them at once. */
export const RECYCLED_RUNS_PER_SIZE = 64;
/** Initiators of one DMA context: functions that a driver of ours opened. */
export const INITIATORS_MAX = 4096;
/** Timers and transfers in flight in one simulation. */
export const TIMERS_MAX = 1024 * 1024;
/** Device models of one simulation that are ready at once. */
export const READY_MAX = 1024 * 1024;
/** Address ranges that one function's DMA port keeps decided, per direction and epoch. */
export const ROUTES_PER_PORT_MAX = 1024 * 1024;
/** IOMMU faults that are kept; older ones are counted and overwritten. */
export const IOMMU_FAULT_LOG_ENTRIES = 256;
/** Message-signalled interrupts of one simulated machine: destinations times vectors. */
export const INTERRUPTS_MAX = 256 * 224;
/** Bytes that a packed input may unpack to; a bug report or a gathered sysfs has 5 to 100 MiB. */
export const UNPACKED_BYTES_MAX = 512 * 1024 * 1024;
/** Files in one tar. A gathered sysfs has about 12,000, a sosreport some 100,000. */
export const TAR_ENTRIES_MAX = 500_000;
/** Characters of a path in a tar; Linux's PATH_MAX. */
export const TAR_PATH_CHARS_MAX = 4096;
/** Archives inside archives: `.tar.gz` is two. */
export const ARCHIVE_DEPTH_MAX = 4;
/** Symbolic links followed to reach one file, as Linux does. */
export const SYMLINKS_MAX = 40;
/** Smallest and largest granule of a provider's pool, in bytes. */
export const POOL_GRANULE_MIN = 512;
export const POOL_GRANULE_MAX = 2 * 1024 * 1024;
/** Lines of a kernel configuration; a distribution's has about 12,000. */
export const KERNEL_CONFIG_LINES_MAX = 50_000;
/** RAM ranges of one machine (hot-pluggable memory lists one per block in the worst case). */
export const RAM_RANGES_MAX = 65_536;
/** Bytes of one XML topology; the largest known have 0.3 MiB. Parsing takes about 1 s per MiB. */
export const XML_BYTES_MAX = 8 * 1024 * 1024;
/** Elements inside elements. hwloc nests memory, packages, caches, cores and bridges: under 40. */
export const XML_DEPTH_MAX = 100;

/** Commands that an NVMe controller model starts in one step, over all its queues. */
export const NVME_STEP_COMMANDS_MAX = 64;
/** I/O queue pairs of one NVMe controller model. */
export const NVME_IO_QUEUES_MAX = 1024;
/** Commands that an NVMe controller model has under way at once. */
export const NVME_COMMANDS_MAX = 65_536;
/** Namespaces of one NVMe controller model: one Identify list. */
export const NVME_NAMESPACES_MAX = 1024;
/** SGL descriptors of one command, in all segments: ends lists that lead back to themselves. */
export const NVME_SGL_DESCRIPTORS_MAX = 131_072;
/** Asynchronous events waiting in an NVMe controller for a request to report them. */
export const NVME_EVENTS_MAX = 64;
/** I/O queues of one NVMe-oF controller. */
export const NVMET_QUEUES_MAX = 128;
/** Entries of one NVMe-oF submission queue. */
export const NVMET_QUEUE_DEPTH_MAX = 1024;
/** Keyed SGL descriptors of one capsule (MSDBD). */
export const NVMET_SGL_DESCRIPTORS_MAX = 16;
/** NVMe/TCP: connections of one port, each with up to 2 MiB of buffers and its reserve (MDTS). */
export const TCP_CONNECTIONS_MAX = 128;
/** Bytes that arrived on one connection and wait: above, reading pauses and the peer must wait. */
export const TCP_INBOX_BYTES_MAX = 256 * 1024;
/** Connections of one port that have not finished their TLS handshake. */
export const TLS_HANDSHAKES_MAX = 64;
/** PDUs that one connection handles before the next has its turn. */
export const TCP_PDUS_PER_POLL = 64;
/** Buffers of one connection for what it sends, and the bytes of each. */
export const TCP_SEND_BUFFERS_MAX = 3;
export const TCP_SEND_BUFFER_BYTES = 264 * 1024;
/** Bytes that are sent while more is built, so that the peer works on them meanwhile. */
export const TCP_FLUSH_BYTES = TCP_SEND_BUFFER_BYTES / 2;
/** Data bytes of one H2CData that the target takes (MAXH2CDATA). */
export const TCP_H2C_DATA_BYTES_MAX = 128 * 1024;
/** Bytes of one message of in-band authentication: the largest group and hash need 1168. */
export const NVMET_AUTH_BYTES_MAX = 4096;
/** NVMe/TCP: milliseconds that a connection may take to send its ICReq. */
export const TCP_ICREQ_TIMEOUT_MS = 10_000;
/** Milliseconds that a connection may take to send its Connect command: it holds a receive ring. */
export const NVMET_CONNECT_TIMEOUT_MS = 30_000;
/** Milliseconds that a host may take without moving a byte of the data it asked for or owes. */
export const NVMET_STALL_TIMEOUT_MS = 15_000;
/** Milliseconds that all data of one command may take on the network. */
export const NVMET_TRANSFER_TIMEOUT_MS = 60_000;
/** Bytes of payload in host buffers at once, over all connections of a target by TCP. */
export const NVMET_IN_FLIGHT_BYTES = 64 * 1024 * 1024;
/** The same of one connection, its share of what is free aside. */
export const NVMET_CONNECTION_BYTES = 8 * 1024 * 1024;
/** Bytes of one request on the control socket, and connections to it at once. */
export const CONTROL_LINE_BYTES_MAX = 1024 * 1024;
export const CONTROL_CONNECTIONS_MAX = 16;
/** Milliseconds that a control connection may take to finish a line it began. */
export const CONTROL_LINE_TIMEOUT_MS = 10_000;
/** Subsystems of one target. */
export const NVMET_SUBSYSTEMS_MAX = 1024;
/** Namespaces of one subsystem. */
export const NVMET_NAMESPACES_MAX = 1024;
/** ANA groups of one subsystem; the largest identifier as well. As many as Linux' nvmet has. */
export const NVMET_ANA_GROUPS_MAX = 128;
/** Hosts registered with one namespace (reservations). */
export const NVMET_REGISTRANTS_MAX = 1024;
/** Reservation notifications that one controller keeps for its host. */
export const NVMET_RESERVATION_LOGS_MAX = 256;
/** Controllers of one subsystem at a time. */
export const NVMET_CONTROLLERS_MAX = 4096;

/** RDMA: SGEs, fragments and messages. A run of a message carries at most this many fragments. */
export const WIRE_FRAGMENTS_MAX = 32;
/**
 * Messages under way to one port of an impaired wire; what comes on top is dropped, as a switch
 * does.
 */
export const WIRE_QUEUE_MAX = 4096;
/** Objects of one model RNIC. */
export const RNIC_QP_MAX = 4096;
export const RNIC_CQ_MAX = 4096;
export const RNIC_MR_MAX = 65_536;
export const RNIC_PD_MAX = 1024;
/** Work requests one queue pair starts before the next has its turn. */
export const RNIC_BURST_MAX = 64;
/** Bytes that an rw context puts in one work request: what every RNIC takes as one message. */
export const RW_WR_BYTES_MAX = 2 ** 30;
/** Ranges of one memory region: 2^16 of 4 KiB are 256 MiB in the worst case. */
export const RNIC_MR_RANGES_MAX = 65_536;
/** I/O queue pairs that the NVMe driver makes for one controller. One thread drives them. */
export const NVME_DRIVER_QUEUES_MAX = 64;
/** Bytes of one attribute of sysfs; the largest, `resource`, has 17 lines of 57. */
export const SYSFS_ATTRIBUTE_BYTES_MAX = 64 * 1024;
/** Bytes of one text file of /proc; /proc/cpuinfo of 1,024 threads has 1.5 MiB. */
export const PROC_FILE_BYTES_MAX = 16 * 1024 * 1024;
/** Functions whose sysfs files are read at the same time. */
export const SYSFS_READS_AT_ONCE = 32;
/** Bytes of a PCI ID database; the real one has 1.4 MiB. */
export const PCI_IDS_BYTES_MAX = 16 * 1024 * 1024;
/** Sections of one bug report; a full one has about 400. */
export const BUG_REPORT_SECTIONS_MAX = 20_000;
/** Files of one archive or folder that are looked at for dumps. */
export const DUMPS_PER_INPUT_MAX = 256;
/** Bytes that one scenario's workload writes: they lie in memory twice, and once on the medium. */
export const WORKLOAD_BYTES_MAX = 512 * 1024 * 1024;
/** Devices of one `nvidia-smi topo -m`; the largest servers list 8 GPUs and some 20 NICs. */
export const NVSMI_DEVICES_MAX = 256;
/** Bytes of page entries that one page table allocates: those of 128 GiB of device memory. */
export const PAGE_ENTRIES_BYTES_MAX = 2 * 1024 * 1024 * 1024;
