/**
 * The discovery subsystem, which every port offers, and the log page that its controllers answer
 * with: which subsystems a host may use, and where (NVM Express Base 2.0, sections 3.1.2.3 and
 * 5.16.1.23).
 */

import { encodeDiscoveryLog } from "../spec/nvmf/index.ts";
import type { Controller } from "./controller.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { type Port, referralEntry } from "./port.ts";
import { Subsystem } from "./subsystem.ts";

export class Discovery {
  readonly subsystem: Subsystem;
  /** GENCTR: how often the log of some host changed. */
  private generation_ = 1;

  /** `nqn`: its own name, beside the well-known one. Throws `bad-nqn`. */
  constructor(nqn: string, orchestrator: Orchestrator) {
    const options = { nqn, kind: "discovery", allowAnyHost: true, queuesMax: 1 } as const;
    this.subsystem = new Subsystem(options, orchestrator);
  }

  get generation(): number {
    return this.generation_;
  }

  /**
   * The log as a host on `port` sees it. `reached`: the address of this end at which the host that
   * asks came in.
   */
  log(ports: Iterable<Port>, port: Port, hostNqn: string, reached?: string): Uint8Array {
    const entries = [];
    for (const other of ports) {
      for (const subsystem of other.subsystems) {
        // Its own entry, and the subsystems that this host may use.
        const isOwn = subsystem === this.subsystem && other === port;
        const isOffered = subsystem !== this.subsystem && subsystem.mayConnect(hostNqn);
        if (isOwn || isOffered) entries.push(other.entryFor(subsystem, reached));
      }
    }
    for (const referral of port.referrals) entries.push(referralEntry(referral));
    return encodeDiscoveryLog(this.generation_, entries);
  }

  /** The log of these hosts changed: counts it and tells their discovery controllers. */
  changed(controllers: Iterable<Controller>, concerns: (hostNqn: string) => boolean): void {
    this.generation_++;
    for (const controller of controllers) {
      const hears = controller.subsystem === this.subsystem && concerns(controller.hostNqn);
      if (hears) controller.discoveryChanged();
    }
  }
}
