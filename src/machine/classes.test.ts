import { describe, expect, it } from "vitest";
import { classCodeOf, classNameOf, deviceKind } from "./classes.ts";

describe("class codes", () => {
  it.each([
    [0x010802, "Non-Volatile memory controller"],
    [0x060400, "PCI bridge"],
    [0x030200, "3D controller"],
    [0x088000, "System peripheral"],
    [0x130000, "Non-Essential Instrumentation"],
    [0x087700, "Generic system peripheral"],
  ])("%i is a %s", (code, name) => expect(classNameOf(code)).toBe(name));

  it("are found by name in any letter case", () => {
    expect(classCodeOf("USB Controller")).toBe(0x0c0300);
    expect(classCodeOf("Bridge")).toBe(0x068000);
    expect(classCodeOf("nonsense")).toBeNull();
  });

  it.each([
    ["nvme", 0x010802, 0x144d],
    ["storage", 0x010801, 0x144d],
    ["storage", 0x010700, 0x1000],
    ["nic", 0x020000, 0x15b3],
    ["nic", 0x020700, 0x15b3],
    ["gpu", 0x030200, 0x10de],
    ["gpu", 0x120000, 0x1002],
    ["accelerator", 0x120000, 0x1da3],
    ["bridge", 0x060400, 0x10b5],
    ["other", 0x068000, 0x10de],
    ["other", 0x088000, 0x8086],
  ])("a %s has class %i", (kind, classCode, vendorId) => {
    expect(deviceKind({ classCode, vendorId })).toBe(kind);
  });
});
