import { expect, it } from "vitest";
import { MemoryHost, realClock, realFiles, realNetwork } from "../../platform/index.ts";
import { makeContext } from "../context.ts";
import { runCli } from "../run-cli.ts";

const MACHINE = "scenarios/machines/hgx-h100-gpud.vvv.txt";

function target(...args: string[]) {
  const host = new MemoryHost({ args: ["target", ...args] });
  return { host, done: runCli(makeContext(host, realFiles, realClock, process.cwd())) };
}

it("serves until it is interrupted, and logs who comes", async () => {
  // A port that was free a moment ago.
  const probe = await realNetwork.listen({ address: "127.0.0.1", port: 0 }, () => undefined);
  const { port } = probe.at;
  await probe.close();
  const { host, done } = target("-l", `127.0.0.1:${port}`, "-m", MACHINE, "-n", "size=1M");
  for (let i = 0; i < 2000 && !host.stdout.text.includes("connect:"); i++)
    await realClock.sleep(20e3);
  expect(host.stdout.text).toContain(`nvme connect -t tcp -a 127.0.0.1 -s ${port}`);
  expect(host.stdout.text).toContain("namespace 1: 1 MiB, memory: gone when this ends");
  const stream = await realNetwork.connect({ address: "127.0.0.1", port });
  stream.write(new TextEncoder().encode("not NVMe/TCP at all"));
  for (let i = 0; i < 1000 && !host.stderr.text.includes("closed"); i++)
    await realClock.sleep(10e3);
  stream.destroy();
  expect(host.stderr.text).toMatch(/ terminated peer="127.0.0.1:\d+" reason="Invalid PDU Header/);
  host.interrupt();
  expect(await done).toBe(0);
  await expect(realNetwork.connect({ address: "127.0.0.1", port })).rejects.toThrow(/cannot reach/);
}, 60_000);

it("refuses an address and a namespace that make no sense", async () => {
  for (const args of [
    ["-l", "here:now"],
    ["-n", "size=many"],
  ]) {
    const { host, done } = target("-m", MACHINE, ...args);
    expect(await done).toBe(2);
    expect(host.stderr.text).toMatch(/try: write/);
  }
});
