import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { StateFile } from "./state-file.ts";

const folder = mkdtempSync(join(tmpdir(), "peerlane-state-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a state file", () => {
  it("holds what was saved last, and leaves nothing else behind", () => {
    const path = join(folder, "deeper", "state.json");
    const file = new StateFile(path);
    expect(file.load()).toBeNull();
    file.save("one");
    file.save("zwei äöü");
    expect(new StateFile(path).load()).toBe("zwei äöü");
    expect(readdirSync(join(folder, "deeper"))).toEqual(["state.json"]);
  });

  it("keeps the old text when the new one cannot be written, and says why", () => {
    const path = join(folder, "kept.json");
    const file = new StateFile(path);
    file.save("old");
    // The name of the partial file is taken by a folder.
    mkdirSync(`${path}.partial`);
    expect(() => file.save("new")).toThrow(/cannot write .*kept\.json/);
    expect(file.load()).toBe("old");
  });

  it("refuses what is no saved state", () => {
    const path = join(folder, "large");
    writeFileSync(path, new Uint8Array(1024 * 1024 + 1));
    expect(() => new StateFile(path).load()).toThrow(/too long/);
    expect(() => new StateFile(folder).load()).toThrow(/cannot read/);
  });
});
