/**
 * The namespaces of one controller that are open as block devices, and those that this driver
 * cannot use. What the controller lists may change while it is up: `rescan` follows it.
 */

import { type AdminSite, identifyNamespaces, identifyNvmLimits, type Site } from "./bring-up.ts";
import type { ControllerInfo, NamespaceInfo } from "./identify.ts";
import type { IoEngine } from "./io-engine.hot.ts";
import { closeNamespace, limitsOf, type NvmeNamespace, openNamespace } from "./namespace.ts";
import type { Steps } from "./steps.ts";

export class NamespaceList {
  readonly usable: NvmeNamespace[] = [];
  /** Each with the reason in `unsupported`. */
  readonly unsupported: NamespaceInfo[] = [];
  private readonly site: Site;
  private readonly admin: AdminSite;
  private readonly engine: IoEngine;

  constructor(site: Site, admin: AdminSite, engine: IoEngine) {
    this.site = site;
    this.admin = admin;
    this.engine = engine;
  }

  /**
   * Opens what came and closes what went, which must have no I/O in flight. `depth`: requests of
   * one namespace in flight at most. Throws what Identify and allocating memory throw.
   */
  *rescan(controller: ControllerInfo, depth: number): Steps<void> {
    const { engine } = this;
    const { device, options, place } = this.site;
    const nvm = yield* identifyNvmLimits(this.site, this.admin);
    const found = yield* identifyNamespaces(this.admin);
    for (const known of [...this.usable]) {
      if (found.some(({ nsid }) => nsid === known.info.nsid)) continue;
      this.usable.splice(this.usable.indexOf(known), 1);
      closeNamespace(known, device);
    }
    this.unsupported.length = 0;
    const context = { engine, device, name: `nvme ${place} `, depth, options };
    for (const one of found) {
      if (this.usable.some(({ info }) => info.nsid === one.nsid)) continue;
      if (one.unsupported !== null) this.unsupported.push(one);
      else {
        const limits = limitsOf(controller, one, nvm, options);
        this.usable.push(openNamespace(one, limits, context));
      }
    }
  }

  /** Gives back the memory of all of them; nothing may be in flight. */
  close(): void {
    for (const namespace of this.usable) closeNamespace(namespace, this.site.device);
  }
}
