/**
 * Records the captures of our own host in testing/captures (`npm run record:captures`, or with `--`
 * the names of some): see the
 * README there. Those of Linux come from the kernel test.
 */

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { parseDhchapKey } from "../src/nvmet/index.ts";
import { realNetwork, realRandom } from "../src/platform/index.ts";
import type { ServedPort } from "../src/scenario/index.ts";
import {
  discoverySession,
  diskSession,
  fusedSession,
  type SessionOptions,
} from "../testing/capture-session.ts";
import { SECURE_HOST } from "../testing/session-reference.ts";
import { openService } from "../testing/target-service.ts";

const FOLDER = join(import.meta.dirname, "../testing/captures");
const NQN = "nqn.2026-11.dev.peerlane:target";
const HOST = "nqn.2026-11.dev.peerlane:host";
/** Blocks of each I/O: in a capsule, and by R2T. */
const SIZES = [1, 16, 17, 40];

const MODES: Readonly<Record<string, Partial<SessionOptions>>> = {
  "host-plain": {},
  "host-digests": { headerDigest: true, dataDigest: true, disableSqFlowControl: true },
  "host-aligned": { headerDigest: true, hpda: 7 },
  "host-fused": {
    headerDigest: true,
    // All data by R2T.
    inCapsuleBytes: 0,
    hostNqn: SECURE_HOST.nqn,
    credentials: {
      key: parseDhchapKey(SECURE_HOST.key),
      ctrlKey: parseDhchapKey(SECURE_HOST.ctrlKey),
      hashes: ["sha256"],
      groups: [null],
      random: realRandom,
    },
  },
};

const folder = await mkdtemp(join(tmpdir(), "peerlane-record-"));
const wanted = process.argv.slice(2);
for (const [name, mode] of Object.entries(MODES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const path = join(folder, name);
  const service = await openService({
    capture: { path },
    log: { level: "error" },
    hosts: [
      { nqn: SECURE_HOST.nqn, dhchap_key: SECURE_HOST.key, dhchap_ctrl_key: SECURE_HOST.ctrlKey },
    ],
    subsystems: [{ nqn: NQN, attr_allow_any_host: true, namespaces: [{ nsid: 1, size: "64M" }] }],
    ports: [{ portid: 1, addr_trsvcid: 0, subsystems: [NQN] }],
  });
  const { at } = service.server.ports.get(1) as ServedPort;
  const session = { network: realNetwork, at, subsystemNqn: NQN, hostNqn: HOST, ...mode };
  if (name === "host-plain") await discoverySession({ ...session, sizes: [] });
  if (name === "host-fused") {
    const outcomes = await fusedSession({ ...session, sizes: [] });
    process.stdout.write(`${outcomes.map((one) => one.toString(16)).join(" ")}\n`);
  } else await diskSession({ ...session, sizes: SIZES });
  await service.close();
  const packed = gzipSync(await readFile(path), { level: 9 });
  await writeFile(join(FOLDER, `${name}.pcapng.gz`), packed);
  process.stdout.write(`${name}: ${packed.length} bytes\n`);
}
await rm(folder, { recursive: true });
