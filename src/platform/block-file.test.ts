import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBlockFile } from "./block-file.ts";

describe("block file", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "peerlane-block-"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it("reads, writes and extends by position", () => {
    const file = openBlockFile(join(folder, "a.img"), { sizeBytes: 8192 });
    expect(file.sizeBytes).toBe(8192);
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
    expect(file.writeAt(5000, bytes, 10, 50)).toBe(50);
    const back = new Uint8Array(60);
    expect(file.readAt(4995, back, 2, 55)).toBe(55);
    expect([...back.subarray(0, 8)]).toEqual([0, 0, 0, 0, 0, 0, 0, 10]);
    expect(back[2 + 5 + 49]).toBe(59);
    expect(file.sync()).toBe(0);
    expect(file.writeAt(20_000, bytes, 0, 1)).toBe(1);
    expect(file.sizeBytes).toBe(20_001);
    file.close();
  });

  it("reads short at the end, and says -1 when the host refuses", () => {
    const path = join(folder, "b.img");
    writeFileSync(path, Uint8Array.of(1, 2, 3));
    const file = openBlockFile(path, { readOnly: true, sizeBytes: 4096 });
    expect(file.sizeBytes).toBe(3);
    expect(file.readAt(1, new Uint8Array(8), 0, 8)).toBe(2);
    expect(file.readAt(9, new Uint8Array(8), 0, 8)).toBe(0);
    expect(file.writeAt(0, new Uint8Array(8), 0, 8)).toBe(-1);
    expect(file.truncate(0)).toBe(-1);
    file.close();
    expect(file.readAt(0, new Uint8Array(8), 0, 8)).toBe(-1);
    expect(file.sync()).toBe(-1);
  });

  it("keeps what is there, and is empty after truncating", () => {
    const path = join(folder, "c.img");
    writeFileSync(path, Uint8Array.of(7));
    const file = openBlockFile(path, { sizeBytes: 16 });
    const byte = new Uint8Array(1);
    file.readAt(0, byte, 0, 1);
    expect(byte[0]).toBe(7);
    expect(file.truncate(0)).toBe(0);
    expect(file.sizeBytes).toBe(0);
    file.close();
  });

  it("says which path cannot be opened, and what to do", () => {
    expect(() => openBlockFile(join(folder, "no", "such", "d.img"))).toThrow(
      expect.objectContaining({ code: "block-file", remedy: expect.any(String) }),
    );
  });
});
