import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BlockFile, FileStatus, openBlockFile } from "./block-file.ts";

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
    expect(file.syncNow()).toBe(0);
    expect(file.writeAt(20_000, bytes, 0, 1)).toBe(1);
    expect(file.sizeBytes).toBe(20_001);
    file.close();
  });

  it("reads short at the end, and says why when the host refuses", () => {
    const path = join(folder, "b.img");
    writeFileSync(path, Uint8Array.of(1, 2, 3));
    const file = openBlockFile(path, { readOnly: true, sizeBytes: 4096 });
    expect(file.sizeBytes).toBe(3);
    expect(file.readAt(1, new Uint8Array(8), 0, 8)).toBe(2);
    expect(file.readAt(9, new Uint8Array(8), 0, 8)).toBe(0);
    expect(file.writeAt(0, new Uint8Array(8), 0, 8)).toBe(FileStatus.readOnly);
    expect(file.truncate(0)).toBe(FileStatus.readOnly);
    file.close();
    expect(file.readAt(0, new Uint8Array(8), 0, 8)).toBe(FileStatus.error);
    expect(file.syncNow()).toBe(FileStatus.error);
    expect(file.lastError).toBe("EBADF");
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

  it("syncs in the background, tells in what order, and is idle afterwards", async () => {
    let woken = 0;
    const wake = (): void => void woken++;
    const file = openBlockFile(join(folder, "e.img"), { sizeBytes: 8192, lock: true, wake });
    const told: string[] = [];
    file.writeAt(0, new Uint8Array(4096).fill(1), 0, 4096);
    expect(file.sync((status) => told.push(`sync ${status}`))).toBe(FileStatus.pending);
    expect(told).toEqual([]);
    await file.idle();
    expect(told).toEqual(["sync 0"]);
    expect(woken).toBe(1);
    file.close();
  });

  it("gives the space of a range back", async () => {
    const file = openBlockFile(join(folder, "f.img"), { sizeBytes: 2 ** 20, lock: true });
    if (!file.canPunch) {
      file.close();
      return;
    }
    const bytes = new Uint8Array(2 ** 20).fill(3);
    file.writeAt(0, bytes, 0, bytes.length);
    file.syncNow();
    const before = file.usedBytes;
    const told: number[] = [];
    file.punch(65_536, 524_288, (status) => told.push(status));
    file.punch(0, 512, (status) => told.push(status));
    await file.idle();
    expect(told).toEqual([0, 0]);
    expect(before - file.usedBytes).toBeGreaterThanOrEqual(524_288 - 8192);
    expect(file.sizeBytes).toBe(2 ** 20);
    file.readAt(0, bytes, 0, bytes.length);
    const zeros = (from: number, to: number) =>
      bytes.subarray(from, to).every((byte) => byte === 0);
    expect(zeros(0, 512) && zeros(65_536, 589_824)).toBe(true);
    expect(bytes[512] + bytes[65_535] + bytes[589_824]).toBe(9);
    file.close();
  });

  it("belongs to one writer or to many readers, until it is closed", () => {
    const path = join(folder, "g.img");
    const first = openBlockFile(path, { sizeBytes: 4096, lock: true });
    const locked = expect.objectContaining({ code: "block-file-locked" });
    expect(() => openBlockFile(path, { sizeBytes: 4096, lock: true })).toThrow(locked);
    expect(() => openBlockFile(path, { readOnly: true, lock: true })).toThrow(locked);
    first.close();
    const readers = [1, 2].map(() => openBlockFile(path, { readOnly: true, lock: true }));
    expect(() => openBlockFile(path, { lock: true })).toThrow(locked);
    for (const reader of readers) reader.close();
    openBlockFile(path, { lock: true }).close();
  });

  it("refuses what is no regular file, and does not make one without a size", () => {
    const code = (path: string, options = {}) => {
      try {
        openBlockFile(path, options).close();
      } catch (error) {
        return (error as { code: string }).code;
      }
      return "opened";
    };
    expect(code("/dev/zero")).toBe("block-file-kind");
    expect(code(folder, { readOnly: true })).toBe("block-file-kind");
    expect(code(join(folder, "none.img"))).toBe("block-file");
    expect(code("/proc/version", { sizeBytes: 4096 })).toBe("block-file");
  });

  it("tells a full disk from other failures", () => {
    // /dev/full is a file that is always full, to whoever opens it by another name.
    const file = new BlockFile("/dev/full", openSync("/dev/full", "r+"), {
      readOnly: false,
      canPunch: false,
      wake: () => undefined,
    });
    expect(file.writeAt(0, new Uint8Array(512), 0, 512)).toBe(FileStatus.noSpace);
    expect(file.lastError).toBe("ENOSPC");
    expect(file.punch(0, 512, () => undefined)).toBe(FileStatus.error);
    file.close();
  });
});
