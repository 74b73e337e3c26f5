/** Units of time in nanoseconds, which is what clocks count. */

export const NS_PER_MS = 1e6;
export const NS_PER_S = 1e9;
