/** `peerlane keygen`: keys for authentication and TLS, in the formats of nvme-cli. */

import { ExitStatus, UsageError } from "../../core/index.ts";
import { generateDhchapKey, generateTlsKey } from "../../nvmet/index.ts";
import { type HashName, realRandom } from "../../platform/index.ts";
import type { CommandModule } from "../command.ts";
import { printText } from "../context.ts";

interface Options {
  readonly hash: string;
}

/** Hashes that a DH-HMAC-CHAP key may name. */
const HASHES: Readonly<Record<string, HashName | null>> = {
  none: null,
  sha256: "sha256",
  sha384: "sha384",
  sha512: "sha512",
};

export const keygen: CommandModule = {
  register(program, perform, context) {
    program
      .command("keygen")
      .argument("<kind>", "dhchap (DHHC-1:...) or tls (NVMeTLSkey-1:...)")
      .description("make a key for DH-HMAC-CHAP authentication or for TLS, as nvme-cli does")
      .option("--hash <name>", "of a dhchap key: none, sha256, sha384, sha512", "sha256")
      .action((kind: string, options: Options) =>
        perform(async () => {
          printText(context, make(kind, options.hash));
          return ExitStatus.ok;
        }),
      );
  },
};

function make(kind: string, name: string): string {
  if (kind === "tls") return generateTlsKey(realRandom);
  const hash = HASHES[name];
  if (kind === "dhchap" && hash !== undefined) return generateDhchapKey(hash, realRandom);
  const what = kind === "dhchap" ? `hash "${name}"` : `"${kind}"`;
  throw new UsageError("bad-option", `${what} is not known`, {
    remedy: "peerlane keygen dhchap --hash sha256, or peerlane keygen tls",
  });
}
