/**
 * Records the captures of our own host in testing/captures (`npm run record:captures`): see the
 * README there. Those of Linux come from the kernel test.
 */

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import {
  realClock,
  realLocalSockets,
  realNetwork,
  realRecordFiles,
} from "../src/platform/index.ts";
import { type ServedPort, TargetService, targetConfigSchema } from "../src/scenario/index.ts";
import { discoverySession, diskSession } from "../testing/capture-session.ts";
import { sameSwitch } from "../testing/machines.ts";

const FOLDER = join(import.meta.dirname, "../testing/captures");
const NQN = "nqn.2026-11.dev.peerlane:target";
const HOST = "nqn.2026-11.dev.peerlane:host";
/** Blocks of each I/O: in a capsule, and by R2T. */
const SIZES = [1, 16, 17, 40];

const MODES = {
  "host-plain": {},
  "host-digests": { headerDigest: true, dataDigest: true, disableSqFlowControl: true },
  "host-aligned": { headerDigest: true, hpda: 7 },
};

const folder = await mkdtemp(join(tmpdir(), "peerlane-record-"));
for (const [name, mode] of Object.entries(MODES)) {
  const path = join(folder, name);
  const service = await TargetService.open({
    machine: sameSwitch(),
    config: targetConfigSchema.parse({
      capture: { path },
      log: { level: "error" },
      subsystems: [{ nqn: NQN, attr_allow_any_host: true, namespaces: [{ nsid: 1, size: "64M" }] }],
      ports: [{ portid: 1, addr_trsvcid: 0, subsystems: [NQN] }],
    }),
    network: realNetwork,
    localSockets: realLocalSockets,
    recordFiles: realRecordFiles,
    clock: realClock,
    write: (text) => process.stderr.write(text),
    onError: (error) => {
      throw error;
    },
  });
  const { at } = service.server.ports.get(1) as ServedPort;
  const session = { network: realNetwork, at, subsystemNqn: NQN, hostNqn: HOST, ...mode };
  if (name === "host-plain") await discoverySession({ ...session, sizes: [] });
  await diskSession({ ...session, sizes: SIZES });
  await service.close();
  const packed = gzipSync(await readFile(path), { level: 9 });
  await writeFile(join(FOLDER, `${name}.pcapng.gz`), packed);
  process.stdout.write(`${name}: ${packed.length} bytes\n`);
}
await rm(folder, { recursive: true });
