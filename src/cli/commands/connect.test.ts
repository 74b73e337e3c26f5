import { expect, it } from "vitest";
import { MemoryHost, realClock, realFiles } from "../../platform/index.ts";
import { makeContext } from "../context.ts";
import { runCli } from "../run-cli.ts";

function cli(...args: string[]) {
  const host = new MemoryHost({ args });
  const done = runCli(makeContext(host, realFiles, realClock, process.cwd()));
  return done.then((status) => ({ status, out: host.stdout.text, err: host.stderr.text }));
}

it("makes keys in the formats of nvme-cli", async () => {
  expect(await cli("keygen", "dhchap")).toMatchObject({
    status: 0,
    out: expect.stringMatching(/^DHHC-1:01:[A-Za-z0-9+/]{48}:\n$/),
  });
  expect((await cli("keygen", "dhchap", "--hash", "sha512")).out).toMatch(/^DHHC-1:03:.{92}:\n$/);
  expect((await cli("keygen", "tls")).out).toMatch(/^NVMeTLSkey-1:01:[A-Za-z0-9+/]{48}:\n$/);
  expect((await cli("keygen", "ssh")).status).toBe(2);
}, 60_000);

it("says what is wrong with its options, and shows no key", async () => {
  const nqn = ["--nqn", "nqn.2026-11.test.peerlane:x"];
  const key = "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaX:";
  const cases: [string[], RegExp][] = [
    [["127.0.0.1:1"], /--nqn is missing/],
    [["::1", "info", ...nqn], /no address of a target/],
    [["127.0.0.1:1", "format", ...nqn], /nothing that connect does/],
    [["127.0.0.1:1", "bench", ...nqn, "--depth", "0"], /--depth 0 is not possible/],
    [["127.0.0.1:1", "info", ...nqn, "--dhchap-secret", key], /checksum is wrong/],
    [["127.0.0.1:1", "info", ...nqn, "--dhchap-ctrl-secret", key], /needs --dhchap-secret/],
    [["127.0.0.1:1", "info", ...nqn, "--tls-key", key], /no TLS PSK/],
  ];
  for (const [args, why] of cases) {
    const { status, err } = await cli("connect", ...args);
    expect(err).toMatch(why);
    expect(status).toBe(2);
    expect(err).not.toContain("AwQFBgcI");
  }
  const nobody = await cli("connect", "127.0.0.1:1", "info", ...nqn);
  expect(nobody).toMatchObject({ status: 1, err: expect.stringMatching(/cannot reach/) });
}, 60_000);
