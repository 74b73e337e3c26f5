import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UsageError } from "../../core/index.ts";
import { formatTargetConfig } from "./format.ts";
import { parseTargetConfig } from "./load.ts";
import { type TargetConfig, targetConfigSchema } from "./schema.ts";

const FULL = `
machine: [dump.txt]
ssd: "0000:18:00.0"
capture: { path: c.pcapng, max_bytes: 64M }
hosts:
  - nqn: nqn.2026-11.test:host
    dhchap_key: "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:"
    dhchap_dhgroup: ffdhe2048
subsystems:
  - nqn: nqn.2026-11.test:a
    attr_serial: A1
    allowed_hosts: [nqn.2026-11.test:host]
    namespaces:
      - nsid: 1
        device_path: disk.img
        size: 1G
        device_uuid: 8FB4BB5B-3C06-4D4F-B1E4-0E1B0AD32B2A
      - { nsid: 7, size: 64K, enable: 0, p2pmem: "0000:18:00.0", ana_grpid: 2, block_size: 4096 }
  - nqn: nqn.2026-11.test:b
    attr_allow_any_host: 1
ports:
  - portid: 1
    addr_traddr: "::1"
    addr_trsvcid: 4420
    subsystems: [nqn.2026-11.test:a, nqn.2026-11.test:b]
    ana_groups: [{ grpid: 2, ana_state: inaccessible }]
    referrals: [{ name: other, addr_traddr: 10.0.0.9 }]
  - portid: 2
    addr_trsvcid: "4421"
    param_inline_data_size: 4K
    subsystems: [nqn.2026-11.test:a]
`;

function refusal(text: string, file = "t.yaml"): UsageError {
  try {
    parseTargetConfig(text, file);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("target configuration", () => {
  it("reads every part, and fills in what is left out", () => {
    const { config, notes } = parseTargetConfig(FULL, "conf/t.yaml");
    expect(notes).toEqual([]);
    expect(config.machine).toEqual(["conf/dump.txt"]);
    expect(config.capture).toEqual({
      path: "conf/c.pcapng",
      max_bytes: 2 ** 26,
      overwrite: false,
    });
    const [a, b] = config.subsystems;
    expect(a).toMatchObject({ attr_serial: "A1", attr_allow_any_host: false, attr_qid_max: 16 });
    expect(a?.namespaces[0]).toEqual({
      nsid: 1,
      device_path: "conf/disk.img",
      size: 2 ** 30,
      backend: "ssd",
      device_uuid: "8fb4bb5b-3c06-4d4f-b1e4-0e1b0ad32b2a",
      enable: true,
      ana_grpid: 1,
      p2pmem: "0",
      buffered_io: true,
      read_only: false,
      block_size: 512,
    });
    expect(a?.namespaces[1]).toMatchObject({ enable: false, p2pmem: "0000:18:00.0" });
    expect(b?.attr_allow_any_host).toBe(true);
    expect(config.ports[1]).toMatchObject({
      addr_traddr: "127.0.0.1",
      addr_trsvcid: 4421,
      param_inline_data_size: 4096,
      param_max_queue_size: 128,
    });
  });

  it("reads back what it writes", () => {
    const { config } = parseTargetConfig(FULL, "t.yaml");
    const text = formatTargetConfig(config);
    expect(parseTargetConfig(text, "again.yaml").config).toEqual(config);
    // Nobody chose these.
    expect(text).not.toContain("buffered_io");
    expect(text).not.toContain("limits");
    const empty = targetConfigSchema.parse({});
    expect(parseTargetConfig(formatTargetConfig(empty), "e.yaml").config).toEqual(empty);
  });

  const wrong: [string, [string, string], RegExp][] = [
    ["an NQN", ["nqn: nqn.2026-11.test:b", "nqn: disk"], /subsystems\[1\].nqn/],
    ["an unknown key", ["attr_serial: A1", "serial: A1"], /Unrecognized key/],
    ["a size", ["size: 1G", "size: 1Q"], /"1Q" is no size/],
    ["an odd size", ["size: 64K", "size: 1000"], /multiple of 4 KiB/],
    ["a UUID", ["8FB4BB5B-", "8FB4-"], /device_uuid: write 8-4-4-4-12/],
    ["a port number", ['"4421"', "70000"], /ports\[1\].addr_trsvcid/],
    [
      "a subsystem that is not there",
      ["[nqn.2026-11.test:a]", "[nqn.2026-11.test:c]"],
      /there is no subsystem nqn.2026-11.test:c/,
    ],
    ["two of a kind", ["portid: 2", "portid: 1"], /ports\[1\].portid: 1 is there twice/],
    [
      "two at one address",
      ['2\n    addr_trsvcid: "4421"', '2\n    addr_traddr: "::1"'],
      /another port listens on ::1/,
    ],
    ["a family", ["addr_trsvcid: 4420", "addr_adrfam: ipv4"], /no ipv4 address/],
    ["in-capsule data", ["4K\n    sub", "16K\n    sub"], /at most 8192 bytes/],
    ["a key of a host", ["DHHC-1:00:", "DHHC:"], /dhchap_key: write DHHC-1/],
    ["memory without a size", ["size: 64K, ", ""], /in memory needs a size/],
    ["syntax", ["portid: 2", "portid: @2"], /./],
  ];
  it.each(wrong)("names the place of %s that is wrong", (_name, [from, to], message) => {
    expect(FULL).toContain(from);
    const text = FULL.replace(from, to);
    const line = text.slice(0, FULL.indexOf(from)).split("\n").length;
    const error = refusal(text);
    expect(error.message).toMatch(message);
    expect(error.place).toMatch(new RegExp(`^t.yaml:${line}:\\d+$`));
    expect(error.remedy).toBeDefined();
    expect(error.exitStatus).toBe(2);
  });

  it("accepts or refuses odd text, and nothing else", () => {
    const words = fc.constantFrom(
      ...FULL.split(/(?=[\s:[\]{},-])/),
      "*a",
      "&a",
      "null",
      "-1",
      "1e9",
    );
    const text = fc.array(words, { maxLength: 30 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, fc.nat(FULL.length), (odd, at) => {
        for (const one of [odd, FULL.slice(0, at) + odd + FULL.slice(at)]) {
          try {
            parseTargetConfig(one, "odd.yaml");
          } catch (error) {
            expect(error).toBeInstanceOf(UsageError);
          }
        }
      }),
      { seed: 5, numRuns: 60 },
    );
  });
});

/** As nvmetcli writes it: text for numbers, attribute groups as objects. */
const SAVED = {
  hosts: [{ nqn: "nqn.2026-11.test:host" }],
  ports: [
    {
      addr: {
        adrfam: "ipv4",
        traddr: "127.0.0.1",
        treq: "not specified",
        trsvcid: "4420",
        trtype: "tcp",
        tsas: "none",
      },
      ana_groups: [
        { ana: { state: "optimized" }, grpid: 1 },
        { ana: { state: "non-optimized" }, grpid: 2 },
      ],
      param: { inline_data_size: "8192", pi_enable: "0" },
      portid: 1,
      referrals: [
        { addr: { traddr: "10.0.0.9", trsvcid: "4420", trtype: "tcp" }, enable: 1, name: "r" },
      ],
      subsystems: ["nqn.2026-11.test:a"],
    },
    { addr: { traddr: "10.0.0.1", trtype: "rdma" }, portid: 2, subsystems: [] },
  ],
  subsystems: [
    {
      allowed_hosts: ["nqn.2026-11.test:host"],
      attr: {
        allow_any_host: "0",
        cntlid_max: "65519",
        cntlid_min: "1",
        model: "Linux",
        pi_enable: "1",
        serial: "c5d2a3f1e0",
        version: "2.1",
      },
      namespaces: [
        {
          ana: { grpid: "2" },
          ana_grpid: 2,
          device: {
            nguid: "00000000-0000-0000-0000-000000000000",
            path: "/srv/disk.img",
            uuid: "8fb4bb5b-3c06-4d4f-b1e4-0e1b0ad32b2a",
          },
          enable: 1,
          buffered_io: 0,
          nsid: 1,
        },
      ],
      nqn: "nqn.2026-11.test:a",
      passthru: { admin_timeout: "" },
    },
  ],
};

describe("nvmetcli's JSON", () => {
  it("is a configuration, with a note for each thing that is not honoured", () => {
    const { config, notes } = parseTargetConfig(JSON.stringify(SAVED, null, 2), "config.json");
    const expected: Partial<TargetConfig> = {
      subsystems: [
        expect.objectContaining({
          attr_allow_any_host: false,
          attr_model: "Linux",
          attr_serial: "c5d2a3f1e0",
          namespaces: [expect.objectContaining({ device_path: "/srv/disk.img", ana_grpid: 2 })],
        }),
      ],
      ports: [
        expect.objectContaining({
          addr_trsvcid: 4420,
          param_inline_data_size: 8192,
          ana_groups: [
            { grpid: 1, ana_state: "optimized" },
            { grpid: 2, ana_state: "non-optimized" },
          ],
          referrals: [expect.objectContaining({ name: "r", addr_traddr: "10.0.0.9" })],
        }),
      ],
    };
    expect(config).toMatchObject(expected);
    expect(config.subsystems[0]?.namespaces[0]).not.toHaveProperty("device_nguid");
    expect(notes).toHaveLength(4);
    expect(notes.join("\n")).toMatch(/namespace 1: buffered_io 0 \(direct I\/O\) is not offered/);
    expect(notes.join("\n")).toMatch(/attr_pi_enable "1" is not offered here/);
    expect(notes.join("\n")).toMatch(/passthru/);
    expect(notes.join("\n")).toMatch(/port 2: transport "rdma" is not served here/);
  });

  it("is refused at its own lines", () => {
    const text = JSON.stringify(SAVED, null, 2).replace('"trsvcid": "4420"', '"trsvcid": "x"');
    const error = refusal(text, "config.json");
    expect(error.message).toMatch(/ports\[0\].addr.trsvcid: write a port number/);
    expect(error.place).toBe("config.json:13:20");
    const unknown = refusal(
      JSON.stringify(SAVED).replace("nqn.2026-11.test:a", "testnqn"),
      "c.json",
    );
    expect(unknown.message).toMatch(/"testnqn" is not an NVMe Qualified Name/);
  });
});
