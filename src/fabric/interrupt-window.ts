/**
 * Where message-signalled interrupts are written to: the local APIC range of x86. Machines of other
 * architectures are simulated with the same range; their drivers do not see it.
 */

/** Intel SDM volume 3, 11.11. `limit` is one past the last address. */
export const INTERRUPT_WINDOW = { base: 0xfee0_0000, limit: 0xfef0_0000 } as const;
