import { expect, test } from "vitest";
import { MemoryFiles } from "./index.ts";

const tree = (): MemoryFiles =>
  new MemoryFiles()
    .addFile("/sys/devices/pci0000:00/0000:00:01.0/vendor", "0x8086\n")
    .addSymlink("/sys/bus/pci/devices/0000:00:01.0", "../../../devices/pci0000:00/0000:00:01.0")
    .addSymlink("/loop/a", "b")
    .addSymlink("/loop/b", "a")
    .addSymlink("/out", "../../../sys")
    .addSymlink("/absolute", "/sys/bus")
    .addFile("/secret", "x")
    .deny("/secret");

test("follows links inside the tree, relative and absolute", async () => {
  const files = tree();
  expect(await files.readText("/sys/bus/pci/devices/0000:00:01.0/vendor", 10)).toBe("0x8086\n");
  expect(await files.readLink("/sys/bus/pci/devices/0000:00:01.0")).toBe(
    "../../../devices/pci0000:00/0000:00:01.0",
  );
  expect(await files.list("/absolute/pci/devices")).toEqual([
    { name: "0000:00:01.0", kind: "symlink" },
  ]);
  expect((await files.list("/out")).map((entry) => entry.name)).toEqual(["bus", "devices"]);
});

test("says why it cannot read, by code", async () => {
  const files = tree();
  const code = (path: string, limit = 10) =>
    files.readBytes(path, limit).then(
      () => "read",
      (error) => error.code,
    );
  expect(await code("/none")).toBe("file-not-found");
  expect(await code("/loop/a")).toBe("file-not-found");
  expect(await code("/sys")).toBe("is-a-folder");
  expect(await code("/secret")).toBe("permission-denied");
  expect(await code("/sys/devices/pci0000:00/0000:00:01.0/vendor", 3)).toBe("file-too-large");
  await expect(files.list("/secret")).rejects.toMatchObject({ code: "not-a-folder" });
  await expect(files.readLink("/sys")).rejects.toMatchObject({ code: "file-not-found" });
});
