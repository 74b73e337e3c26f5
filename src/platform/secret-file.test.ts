import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readSecretFile } from "./index.ts";

it("reads a secret that is its owner's alone, and no other", async () => {
  const folder = mkdtempSync(join(tmpdir(), "peerlane-secret-"));
  const path = join(folder, "key");
  try {
    writeFileSync(path, "hidden\n", { mode: 0o600 });
    expect(await readSecretFile(path)).toBe("hidden");
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(path, mode);
      const error = await readSecretFile(path).catch((caught) => caught);
      expect(error).toMatchObject({ code: "secret-file-open", remedy: `chmod 600 ${path}` });
      expect(JSON.stringify(error)).not.toMatch(/hidden/);
    }
    await expect(readSecretFile(join(folder, "none"))).rejects.toMatchObject({
      code: "file-error",
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
