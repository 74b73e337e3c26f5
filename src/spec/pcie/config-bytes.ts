/**
 * Little-endian access to configuration space held as bytes. Reads beyond the end give zeros for
 * the missing bytes, because dumps end at 64, 256 or 4096; callers that must know ask
 * `config.length`.
 */

export function readLe16(config: Uint8Array, offset: number): number {
  return (config[offset] as number) | ((config[offset + 1] as number) << 8);
}

export function readLe32(config: Uint8Array, offset: number): number {
  return (readLe16(config, offset) | (readLe16(config, offset + 2) << 16)) >>> 0;
}

export function writeLe16(config: Uint8Array, offset: number, value: number): void {
  config[offset] = value & 0xff;
  config[offset + 1] = (value >>> 8) & 0xff;
}

export function writeLe32(config: Uint8Array, offset: number, value: number): void {
  writeLe16(config, offset, value & 0xffff);
  writeLe16(config, offset + 2, value >>> 16);
}
