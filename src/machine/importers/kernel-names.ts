/**
 * Which names that Linux gives to devices may be kept. A name can carry what a dump must not tell:
 * `enx001122334455` is a MAC address, a by-id name holds a serial number.
 */

/**
 * At most this many names of one function are kept; a bonded NIC or an HBA with disks has dozens.
 */
export const KERNEL_NAMES_MAX = 64;

/** True for a short plain name such as `nvme0n1`, `mlx5_0`, `eth0`, `card1`, `cuda0`. */
export function isKernelName(name: string): boolean {
  return (
    /^[a-z][a-z0-9_.-]{0,31}$/.test(name) &&
    !/(?:^|[^0-9a-f])[0-9a-f]{12,}$/.test(name) &&
    !/^(?:en|wl|ww)x/.test(name)
  );
}
