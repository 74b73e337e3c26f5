/**
 * A target configuration as YAML that reads back as the same configuration. What has its default
 * value is left out, so that a saved file shows what somebody chose.
 */

import { stringify } from "yaml";
import type { z } from "zod";
import {
  anaGroupSchema,
  captureSchema,
  hostSchema,
  namespaceSchema,
  portSchema,
  referralSchema,
  subsystemSchema,
  type TargetConfig,
  targetConfigSchema,
} from "./schema.ts";

/** Fields whose value is not what leaving them out would give. */
function chosen(schema: z.ZodObject, value: object): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(value)) {
    if (field === undefined) continue;
    const missing = (schema.shape[key] as z.ZodType | undefined)?.safeParse(undefined);
    const isDefault = missing?.success === true && same(missing.data, field);
    if (!isDefault) kept[key] = field;
  }
  return kept;
}

/** Both are plain data from one schema, so their keys have one order. */
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Plain data without defaults: for YAML, and for JSON. */
export function plainTargetConfig(config: TargetConfig): Record<string, unknown> {
  const subsystems = config.subsystems.map((subsystem) => {
    const namespaces = subsystem.namespaces.map((one) => chosen(namespaceSchema, one));
    const rest = chosen(subsystemSchema, { ...subsystem, namespaces: [] });
    return namespaces.length === 0 ? rest : { ...rest, namespaces };
  });
  const ports = config.ports.map((port) => {
    const groups = port.ana_groups.map((one) => chosen(anaGroupSchema, one));
    const referrals = port.referrals.map((one) => chosen(referralSchema, one));
    const rest = chosen(portSchema, { ...port, ana_groups: [], referrals: [] });
    return {
      ...rest,
      ...(groups.length === 0 ? {} : { ana_groups: groups }),
      ...(referrals.length === 0 ? {} : { referrals }),
    };
  });
  const hosts = config.hosts.map((host) => chosen(hostSchema, host));
  const rest = chosen(targetConfigSchema, { ...config, hosts: [], subsystems: [], ports: [] });
  if (config.capture !== undefined) rest["capture"] = chosen(captureSchema, config.capture);
  return { ...rest, ...(hosts.length === 0 ? {} : { hosts }), subsystems, ports };
}

export function formatTargetConfig(config: TargetConfig): string {
  return stringify(plainTargetConfig(config), { lineWidth: 100 });
}
