import { describe, expect, it } from "vitest";
import { nvmeMachine, SSD_CMB_BYTES } from "../../../../testing/nvme-machine.ts";

describe("a CMB of before NVM Express 1.4 on the fabric", () => {
  it("follows its BAR: told where it decodes, and when it does not", async () => {
    const cmb = { bar: 2, offset: 0, sizeBytes: SSD_CMB_BYTES, legacy: true };
    const { model, device, fabric, attach } = nvmeMachine({ model: { cmb } });
    await attach();
    const { cmb: window } = model.memory;
    const region = device.fn.mapBar(2);
    expect(window.enabled).toBe(true);
    // Bus addresses of this machine are 256 MiB below physical ones.
    expect(window.start).toBe(region.phys - 0x1000_0000);
    const command = device.fn.config.read16(4);
    device.fn.config.write16(4, command & ~2);
    expect(window.enabled).toBe(false);
    device.fn.config.write16(4, command);
    expect(window.start).toBe(region.phys - 0x1000_0000);
    expect(fabric.inspect()).toBeDefined();
  });
});
