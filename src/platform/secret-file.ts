/**
 * Files with secrets: read only when nobody but their owner may read them, as ssh does with keys.
 * What they hold is in no error.
 */
import { readFile, stat } from "node:fs/promises";
import { PeerlaneError } from "../core/index.ts";

/** Bytes of the largest: a few keys. */
const SECRET_BYTES_MAX = 64 * 1024;
/** Group and others. */
const OTHERS = 0o077;

/** Throws `secret-file-open` when others may read it, `file-error` when it cannot be looked at. */
export async function checkSecretFile(path: string): Promise<void> {
  const { mode, size } = await stat(path).catch((cause: Error) => {
    throw new PeerlaneError("file-error", `cannot read ${path}: ${cause.message}`, {
      place: path,
      remedy: "check the path",
      cause,
    });
  });
  if (size > SECRET_BYTES_MAX) {
    throw new PeerlaneError("file-too-large", `${path} is too large for a file with keys`, {
      place: path,
      remedy: "give the file that has the key, alone",
    });
  }
  if ((mode & OTHERS) === 0) return;
  const bits = (mode & 0o777).toString(8).padStart(3, "0");
  throw new PeerlaneError("secret-file-open", `others may read the keys in ${path}: mode ${bits}`, {
    place: path,
    remedy: `chmod 600 ${path}`,
  });
}

/** The text of a file with a secret. Throws what {@link checkSecretFile} throws. */
export async function readSecretFile(path: string): Promise<string> {
  await checkSecretFile(path);
  return (await readFile(path, "utf8")).trim();
}
