/** Hosts that prove who they are, and connections that nobody else reads. */
import { describe, expect } from "vitest";
import { fio } from "../fio.ts";
import { type Guest, HOST_ADDRESS } from "../guest.ts";
import { HOST_NQN } from "../initramfs.ts";
import { lab, step } from "../lab.ts";
import { NQN } from "../target-process.ts";

const SUBSYSTEM = {
  nqn: NQN,
  attr_allow_any_host: true,
  namespaces: [{ nsid: 1, size: "64M" }],
};

const port = (addr_trsvcid: number) => ({
  portid: 1,
  addr_traddr: HOST_ADDRESS,
  addr_trsvcid,
  subsystems: [NQN],
});

async function dhchapKey(guest: Guest, hmac: number): Promise<string> {
  const text = await guest.sh(`nvme gen-dhchap-key --hmac=${hmac} --nqn=${HOST_NQN}`);
  return text.match(/DHHC-1:\S+/)?.[0] ?? expect.fail(text);
}

const connecting = (to: { readonly port: number }, options: string): string =>
  `nvme connect -t tcp -a ${HOST_ADDRESS} -s ${to.port} -n ${NQN} ${options}`;

describe("DH-HMAC-CHAP", () => {
  for (const [dhchap_hash, dhchap_dhgroup] of [
    ["hmac(sha256)", "null"],
    ["hmac(sha384)", "ffdhe2048"],
    ["hmac(sha512)", "ffdhe4096"],
  ] as const) {
    step(
      `${dhchap_hash}, group ${dhchap_dhgroup}: refused without a key and with a wrong one`,
      { seconds: 90, remedy: "nvmet/auth/responder.ts; the target's log says why it refused" },
      async (guest) => {
        const [key, ctrlKey, wrong] = [
          await dhchapKey(guest, 1),
          await dhchapKey(guest, 3),
          await dhchapKey(guest, 1),
        ];
        const host = { nqn: HOST_NQN, dhchap_key: key, dhchap_ctrl_key: ctrlKey };
        const target = await lab.configured((at) => ({
          hosts: [{ ...host, dhchap_hash, dhchap_dhgroup }],
          subsystems: [SUBSYSTEM],
          ports: [port(at)],
        }));
        const own = `--dhchap-secret=${key}`;
        for (const options of [
          "",
          `--dhchap-secret=${wrong}`,
          `${own} --dhchap-ctrl-secret=${wrong}`,
        ]) {
          const { status } = await guest.run(connecting(target, options));
          expect(status, options).not.toBe(0);
        }
        await guest.sh("dmesg -c > /dev/null");
        await lab.connect(target, own);
        await guest.sh("nvme disconnect-all");
        const { device, controller } = await lab.connect(
          target,
          `${own} --dhchap-ctrl-secret=${ctrlKey}`,
        );
        const kernel = await guest.sh("dmesg");
        expect(kernel).toContain(
          `authenticated with hash ${dhchap_hash} dhgroup ${dhchap_dhgroup}`,
        );
        await guest.sh(`dd if=${device} of=/dev/null bs=64k count=8 iflag=direct`);
        await guest.sh(`nvme reset /dev/${controller}`);
        await guest.sh(`dd if=${device} of=/dev/null bs=64k count=8 iflag=direct`);
      },
    );
  }
});

const TLSHD = "/tmp/tlshd.conf";

/** The daemon that does the handshake for the kernel, with the keyring that nvme-tcp looks in. */
async function startTlshd(guest: Guest): Promise<void> {
  await guest.sh(`printf '[authenticate]\\nkeyrings=.nvme\\n' > ${TLSHD}`);
  await guest.sh(`pidof tlshd || (tlshd -c ${TLSHD} > /tmp/tlshd.log 2>&1 < /dev/null &)`);
}

async function tlsKey(guest: Guest): Promise<string> {
  const text = await guest.sh("nvme gen-tls-key --hmac=1");
  return text.match(/NVMeTLSkey-1:\S+/)?.[0] ?? expect.fail(text);
}

const insertKey = (guest: Guest, key: string): Promise<string> =>
  guest.sh(
    `nvme check-tls-key --keydata=${key} --hostnqn=${HOST_NQN} --subsysnqn=${NQN} ` +
      "--identity=1 --insert",
  );

describe("TLS 1.3 with a pre-shared key", () => {
  step(
    "in-kernel TLS of Linux: verified I/O with digests, reset; no TLS and another key are refused",
    {
      seconds: 120,
      remedy: "nvmet/auth/tls-psk.ts (keys), bin/openssl.cnf (tickets); tlshd logs in the guest",
    },
    async (guest) => {
      await startTlshd(guest);
      const tls_key = await tlsKey(guest);
      const target = await lab.configured((at) => ({
        hosts: [{ nqn: HOST_NQN, tls_key }],
        subsystems: [SUBSYSTEM],
        ports: [{ ...port(at), addr_tsas: "tls1.3", addr_treq: "required" }],
      }));
      expect((await guest.run(connecting(target, ""))).status).not.toBe(0);
      await insertKey(guest, await tlsKey(guest));
      expect((await guest.run(connecting(target, "--tls"))).status).not.toBe(0);
      await guest.sh("keyctl clear %:.nvme");
      await insertKey(guest, tls_key);
      const { device, controller } = await lab.connect(target, "--tls --data-digest");
      const job = { rw: "randwrite", bsrange: "512-128k", iodepth: 16, size: "4M" };
      await fio(guest, device, [job], 60);
      await guest.sh(`nvme reset /dev/${controller}`);
      await guest.sh(`dd if=${device} of=/dev/null bs=64k count=8 iflag=direct`);
      expect(await guest.sh(`cat /sys/class/nvme/${controller}/tls_key`)).toMatch(/^[0-9a-f]+/);
    },
  );
});
