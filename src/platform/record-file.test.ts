import { chmod, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { realRecordFiles } from "./record-file.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "peerlane-record-"));
});
afterEach(() => rm(folder, { recursive: true }));

it("is its owner's alone, and has what was appended at once", async () => {
  const path = join(folder, "a");
  const file = realRecordFiles.create(path, false);
  file.append(Uint8Array.of(1, 2));
  file.append(Uint8Array.of(3));
  expect([...(await readFile(path))]).toEqual([1, 2, 3]);
  file.close();
  file.close();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

it("overwrites only when told to, and then not the old file's readers or rights", async () => {
  const path = join(folder, "a");
  await writeFile(path, "precious");
  await chmod(path, 0o666);
  expect(() => realRecordFiles.create(path, false)).toThrow(
    expect.objectContaining({ code: "file-exists", place: path }),
  );
  expect(await readFile(path, "utf8")).toBe("precious");
  realRecordFiles.create(path, true).close();
  expect((await stat(path)).size).toBe(0);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

it("refuses a link, a folder and a device, told to overwrite or not", async () => {
  const target = join(folder, "target");
  await writeFile(target, "precious");
  await symlink(target, join(folder, "link"));
  for (const path of [join(folder, "link"), folder, "/dev/null"]) {
    expect(() => realRecordFiles.create(path, true)).toThrow(/is no regular file/);
  }
  expect(await readFile(target, "utf8")).toBe("precious");
});

it("says why a file cannot be made or written", () => {
  expect(() => realRecordFiles.create(join(folder, "no/such/a"), false)).toThrow(
    expect.objectContaining({ code: "record-file", details: { errno: "ENOENT" } }),
  );
  const file = realRecordFiles.create(join(folder, "a"), false);
  file.close();
  expect(() => file.append(Uint8Array.of(1))).toThrow(
    expect.objectContaining({ code: "record-file" }),
  );
});
