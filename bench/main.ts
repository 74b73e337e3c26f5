/**
 * Runs the benchmarks and prints a line for each; ends with 1 when one misses what it claims. Names
 * after the command choose some: `npm run bench -- fabric-dma`.
 */

import { realClock } from "../src/platform/index.ts";
import { fabricDma } from "./fabric-dma.ts";
import { fabricBorrow64, fabricWrite4k } from "./fabric-small.ts";
import { fileSync, nvmeFileRead, nvmeFileWrite } from "./file-store.ts";
import { gdsReadDmaBuf, gdsReadLease } from "./gds-read.ts";
import { type Bench, isMet } from "./lib.ts";
import { memoryIoDmaAddress, memoryIoPage, memoryIoPhysStrict } from "./memory-io.ts";
import { memoryMap } from "./memory-map.ts";
import { memoryRegister } from "./memory-register.ts";
import { nvmeWriteDeep, nvmeWriteSingle } from "./nvme-io.ts";
import { nvmeModelReadDeep, nvmeModelWriteDeep, nvmeModelWriteSingle } from "./nvme-model.ts";
import {
  nvmetTcp,
  nvmetTcpDigests,
  nvmetTcpLarge,
  nvmetTcpSsd,
  nvmetTcpTls,
  nvmetTcpWrite,
  nvmetTcpWriteLarge,
} from "./nvmet-tcp.ts";
import { nvmetHeap, nvmetLease, nvmetWrite } from "./nvmet-write.ts";
import { parseLspciHex, parseLspciText } from "./parse-lspci.ts";
import { explainStart, matrixJson1024 } from "./planner.ts";
import { rdmaRead4k, rdmaSend64, rdmaSend64Single } from "./rdma-ops.ts";
import { stackRaid0 } from "./stack-raid0.ts";
import { traceOff } from "./trace-off.ts";
import { verdictMatrix256, verdictMatrix1024 } from "./verdict-matrix.ts";

/** Add a benchmark here. */
const BENCHES: readonly Bench[] = [
  fabricDma,
  fabricWrite4k,
  fabricBorrow64,
  gdsReadLease,
  gdsReadDmaBuf,
  memoryMap,
  memoryIoPage,
  memoryIoDmaAddress,
  memoryIoPhysStrict,
  memoryRegister,
  stackRaid0,
  nvmeModelWriteDeep,
  nvmeModelReadDeep,
  nvmeModelWriteSingle,
  nvmeWriteDeep,
  nvmeWriteSingle,
  nvmeFileRead,
  nvmeFileWrite,
  fileSync,
  parseLspciHex,
  parseLspciText,
  nvmetWrite,
  nvmetLease,
  nvmetHeap,
  nvmetTcp,
  nvmetTcpLarge,
  nvmetTcpSsd,
  nvmetTcpWrite,
  nvmetTcpWriteLarge,
  nvmetTcpTls,
  nvmetTcpDigests,
  rdmaSend64,
  rdmaSend64Single,
  rdmaRead4k,
  traceOff,
  verdictMatrix256,
  verdictMatrix1024,
  matrixJson1024,
  explainStart,
];

const chosen = process.argv.slice(2);
const missing = chosen.filter((name) => !BENCHES.some((bench) => bench.name === name));
if (missing.length > 0) {
  console.error(`no benchmark ${missing.join(", ")}; there are: ${BENCHES.map((b) => b.name)}`);
  process.exit(2);
}
let missed = 0;
for (const bench of BENCHES) {
  if (chosen.length > 0 && !chosen.includes(bench.name)) continue;
  const result = await bench.run(realClock);
  const isGood = isMet(result);
  if (!isGood) missed++;
  const sign = result.bound === "at-least" ? ">=" : "<=";
  const verdict = isGood ? "met" : "MISSED";
  console.log(`${bench.name}: ${result.ratio.toFixed(3)} (${sign} ${result.limit}: ${verdict})`);
  console.log(`  ${bench.claim}`);
  console.log(`  ${result.figures}`);
}
process.exitCode = missed === 0 ? 0 : 1;
