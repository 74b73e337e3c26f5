import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PeerlaneError } from "../core/index.ts";
import { realFiles, realFilesInto, textFrom } from "./files.ts";

let folder = "";
const at = (name: string) => join(folder, name);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "peerlane-files-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function failure(work: Promise<unknown>): Promise<PeerlaneError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof PeerlaneError) return error;
    throw error;
  }
  throw new Error("expected a PeerlaneError");
}

describe("reading", () => {
  it("returns every byte, up to and including the limit", async () => {
    const bytes = Uint8Array.from({ length: 200_000 }, (_, i) => i % 251);
    await writeFile(at("dump"), bytes);
    const read = await realFiles.readBytes(at("dump"), 200_000);
    expect(Buffer.compare(read, bytes)).toBe(0);
  });

  it.each([0, 10, 65_536, 199_999])(
    "refuses a file one byte over its limit of %d",
    async (limit) => {
      await writeFile(at("dump"), new Uint8Array(limit + 1));
      const error = await failure(realFiles.readBytes(at("dump"), limit));
      expect(error).toMatchObject({ code: "file-too-large", place: at("dump") });
      expect(error.details).toEqual({ path: at("dump"), limit });
    },
  );

  it("reads files whose size is not known beforehand, with the same limit", async () => {
    expect(await realFiles.readText("/proc/self/stat", 65_536)).toMatch(/^\d+ \(/);
    expect((await failure(realFiles.readBytes("/dev/zero", 300_000))).code).toBe("file-too-large");
  });

  it("uses memory that is given for the first file that fits, and for no other", async () => {
    const spare = new Uint8Array(64);
    const files = realFilesInto(spare.subarray(8));
    await writeFile(at("long"), "x".repeat(56));
    await writeFile(at("first"), "one");
    await writeFile(at("second"), "two");
    const read = [];
    for (const name of ["long", "first", "second"]) read.push(await files.readBytes(at(name), 99));
    expect(read.map((bytes) => Buffer.from(bytes).toString())).toEqual([
      "x".repeat(56),
      "one",
      "two",
    ]);
    expect(read.map(({ buffer }) => buffer === spare.buffer)).toEqual([false, true, false]);
    expect((await failure(files.readBytes(at("first"), 2))).code).toBe("file-too-large");
  });

  it("reads UTF-8 and plain ASCII, also from the middle of a buffer", () => {
    const bytes = Buffer.from("..plain\n..µs\n\uFEFFx");
    expect(textFrom(bytes.subarray(2, 8))).toBe("plain\n");
    expect(textFrom(bytes.subarray(10, 14))).toBe("µs\n");
    expect(textFrom(bytes.subarray(14))).toBe("x");
    expect(textFrom(Uint8Array.of(0x41, 0xff))).toBe("A\uFFFD");
  });

  it.each([0.5, 0.7, 1])("reads %d MiB of ASCII with anything behind it", (share) => {
    const memory = Buffer.alloc((1 << 20) + 9, 0xff);
    const bytes = memory.subarray(8, 8 + share * (1 << 20));
    bytes.fill("some text\n");
    expect(textFrom(bytes)).toBe(bytes.toString());
  });

  it("drops a byte order mark", async () => {
    await writeFile(at("bom"), "\uFEFFname: x");
    expect(await realFiles.readText(at("bom"), 100)).toBe("name: x");
  });

  it("names the path and what to do", async () => {
    const error = await failure(realFiles.readText(at("absent"), 10));
    expect(error.code).toBe("file-not-found");
    expect(error.message).toBe(`cannot read ${at("absent")}: no such file or folder`);
    expect(error.remedy).toMatch(/spelling/);
    expect((await failure(realFiles.readText(folder, 1e6))).code).toBe("is-a-folder");
    await writeFile(at("file"), "");
    expect((await failure(realFiles.readText(join(at("file"), "x"), 9))).code).toBe("not-a-folder");
  });
});

describe("folders and links", () => {
  it("lists entries by name, with their kind", async () => {
    await mkdir(at("b"));
    await writeFile(at("a"), "");
    await symlink("../elsewhere", at("c"));
    expect(await realFiles.list(folder)).toEqual([
      { name: "a", kind: "file" },
      { name: "b", kind: "directory" },
      { name: "c", kind: "symlink" },
    ]);
    expect(await realFiles.readLink(at("c"))).toBe("../elsewhere");
    expect((await failure(realFiles.list(at("none")))).code).toBe("file-not-found");
    expect((await failure(realFiles.readLink(at("a")))).code).toBe("file-error");
  });
});

describe("writing", () => {
  it("makes folders, replaces, and leaves nothing partial behind", async () => {
    const path = join(folder, "x", "y", "report.json");
    await realFiles.write(path, "one");
    await realFiles.write(path, new Uint8Array([50]));
    expect(await realFiles.readText(path, 10)).toBe("2");
    expect(await realFiles.list(join(folder, "x", "y"))).toEqual([
      { name: "report.json", kind: "file" },
    ]);
  });

  it("keeps the old file when it cannot replace it", async () => {
    await mkdir(at("taken"));
    const error = await failure(realFiles.write(at("taken"), "text"));
    expect(error.message).toContain(at("taken"));
    expect((await realFiles.list(folder)).map((entry) => entry.name)).toEqual(["taken"]);
  });

  it("replaces a file durably: whole, in place of the old one, nothing beside it", async () => {
    const path = join(folder, "state", "reservations.json");
    await realFiles.replace(path, "old and longer");
    await realFiles.replace(path, "new");
    expect(await realFiles.readText(path, 10)).toBe("new");
    expect(await realFiles.list(join(folder, "state"))).toHaveLength(1);
    await mkdir(at("taken"));
    const error = await failure(realFiles.replace(at("taken"), "text"));
    expect(error.message).toContain(`cannot replace ${at("taken")}`);
    expect(await realFiles.list(folder)).toHaveLength(2);
  });
});
