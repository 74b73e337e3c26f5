/**
 * Features (NVM Express Base 2.0, sections 5.15 and 5.27): current, default and saved values, and
 * which can change. What a value means to the controller is told through `changed`.
 *
 * Interrupt coalescing and power states are kept and have no effect. Left out: LBA Range Type,
 * autonomous power states, host memory buffer, timestamp, Keep Alive (KAS is 0 on PCIe),
 * reservations.
 */

import {
  ATOMICITY_DN,
  ERROR_RECOVERY_DULBE,
  FEATURE_CAP_CHANGEABLE,
  FEATURE_CAP_NAMESPACE,
  FEATURE_CAP_SAVEABLE,
  Feature,
  FeatureSelect,
  HOST_ID_BYTES,
  HOST_ID_EXTENDED_BYTES,
  NSID_ALL,
  NvmeStatus,
  OAES_NAMESPACE_ATTRIBUTE,
  POWER_PS,
  TEMPERATURE_THSEL,
  TEMPERATURE_TMPSEL,
  TEMPERATURE_TMPTH,
  VECTOR_CD,
  VECTOR_IV,
  VWC_WCE,
} from "../../../spec/nvme/index.ts";

interface FeatureDef {
  readonly initial: number;
  readonly saveable: boolean;
  readonly perNamespace: boolean;
  /** False for a value that the controller cannot take. */
  readonly accepts: (value: number) => boolean;
}

/** Over-temperature threshold at first, in kelvins: 70 degrees Celsius. */
export const TEMPERATURE_OVER_INITIAL = 343;
/** Critical warnings and notices that may be enabled. */
const EVENT_CONFIGURATION_MASK = 0x3f | OAES_NAMESPACE_ATTRIBUTE;
const any = (): boolean => true;

/** Features that are one dword. Those with data or several values are handled apart. */
const DEFS = new Map<number, FeatureDef>([
  [Feature.arbitration, { initial: 7, saveable: true, perNamespace: false, accepts: any }],
  [
    Feature.powerManagement,
    {
      initial: 0,
      saveable: true,
      perNamespace: false,
      accepts: (value) => POWER_PS.get(value) === 0,
    },
  ],
  [
    Feature.errorRecovery,
    {
      initial: 0,
      saveable: true,
      perNamespace: true,
      accepts: (value) => ERROR_RECOVERY_DULBE.get(value) === 0,
    },
  ],
  [
    Feature.volatileWriteCache,
    {
      initial: 1,
      saveable: true,
      perNamespace: false,
      accepts: (value) => value === VWC_WCE.get(value),
    },
  ],
  [Feature.interruptCoalescing, { initial: 0, saveable: true, perNamespace: false, accepts: any }],
  [
    Feature.writeAtomicity,
    {
      initial: 0,
      saveable: true,
      perNamespace: false,
      accepts: (value) => value === ATOMICITY_DN.get(value),
    },
  ],
  [
    Feature.asyncEventConfiguration,
    {
      initial: 0,
      saveable: true,
      perNamespace: false,
      accepts: (value) => (value & ~EVENT_CONFIGURATION_MASK) === 0,
    },
  ],
  [
    Feature.ioCommandSetProfile,
    { initial: 0, saveable: false, perNamespace: false, accepts: (value) => value === 0 },
  ],
  [
    Feature.softwareProgressMarker,
    { initial: 0, saveable: true, perNamespace: false, accepts: (value) => value < 256 },
  ],
]);

/** Handled apart, with what SEL 3 says of them. */
const SPECIAL = new Map<number, number>([
  [Feature.temperatureThreshold, FEATURE_CAP_CHANGEABLE],
  [Feature.numberOfQueues, FEATURE_CAP_CHANGEABLE],
  [Feature.interruptVectorConfiguration, FEATURE_CAP_CHANGEABLE],
  [Feature.hostIdentifier, FEATURE_CAP_CHANGEABLE],
]);

/** What Get Features answers: a status, and dword 0. */
export interface FeatureValue {
  readonly status: number;
  readonly value: number;
}

const failed = (status: number): FeatureValue => ({ status, value: 0 });
const succeeded = (value: number): FeatureValue => ({ status: NvmeStatus.success, value });

export class FeatureTable {
  /** Set through data: zero until a host gives one. */
  readonly hostId = new Uint8Array(HOST_ID_EXTENDED_BYTES);
  hostIdBytes = HOST_ID_BYTES;
  /** Thresholds of the composite temperature in kelvins. */
  temperatureOver = TEMPERATURE_OVER_INITIAL;
  temperatureUnder = 0;
  private readonly options: {
    vectors: number;
    ioQueues: number;
    /** How many there are now. */
    readonly namespaces: { readonly length: number };
    volatileWriteCache: boolean;
  };
  private readonly changed: (fid: number, value: number) => void;
  /** Keyed by {@link keyOf}; absent means the default. */
  private readonly current = new Map<number, number>();
  private readonly saved = new Map<number, number>();
  private readonly uncoalesced = new Set<number>();

  constructor(options: FeatureTable["options"], changed: (fid: number, value: number) => void) {
    this.options = options;
    this.changed = changed;
  }

  /** The current value of a feature that is one dword and not per namespace. */
  value(fid: number): number {
    return this.current.get(keyOf(fid, 0)) ?? (DEFS.get(fid) as FeatureDef).initial;
  }

  supports(fid: number): boolean {
    if (fid === Feature.volatileWriteCache) return this.options.volatileWriteCache;
    return DEFS.has(fid) || SPECIAL.has(fid);
  }

  /** Get Features except the host identifier's data. */
  get(fid: number, select: number, nsid: number, cdw11: number): FeatureValue {
    if (!this.supports(fid)) return failed(NvmeStatus.invalidField);
    const def = DEFS.get(fid);
    if (select === FeatureSelect.supported) return succeeded(capabilities(fid, def));
    if (select > FeatureSelect.supported) return failed(NvmeStatus.invalidField);
    if (def === undefined) return this.getSpecial(fid, select, cdw11);
    if (def.perNamespace && !this.isNamespace(nsid)) {
      return failed(NvmeStatus.invalidNamespaceOrFormat);
    }
    const key = keyOf(fid, def.perNamespace ? nsid : 0);
    if (select === FeatureSelect.default) return succeeded(def.initial);
    const saved = this.saved.get(key) ?? def.initial;
    if (select === FeatureSelect.saved) return succeeded(saved);
    return succeeded(this.current.get(key) ?? def.initial);
  }

  /** Set Features except Number of Queues and the host identifier. Returns an NVMe status. */
  set(fid: number, nsid: number, cdw11: number, save: boolean): number {
    if (!this.supports(fid)) return NvmeStatus.invalidField;
    const def = DEFS.get(fid);
    if (save && !(def?.saveable ?? false)) return NvmeStatus.featureNotSaveable;
    if (def === undefined) return this.setSpecial(fid, cdw11);
    if (!def.accepts(cdw11)) return NvmeStatus.invalidField;
    if (!def.perNamespace && nsid !== 0 && nsid !== NSID_ALL) {
      return NvmeStatus.featureNotNamespaceSpecific;
    }
    if (def.perNamespace && nsid !== NSID_ALL && !this.isNamespace(nsid)) {
      return NvmeStatus.invalidNamespaceOrFormat;
    }
    const first = def.perNamespace && nsid !== NSID_ALL ? nsid : 1;
    const last = def.perNamespace && nsid === NSID_ALL ? this.options.namespaces.length : first;
    for (let id = first; id <= last; id++) {
      const key = keyOf(fid, def.perNamespace ? id : 0);
      this.current.set(key, cdw11);
      if (save) this.saved.set(key, cdw11);
    }
    this.changed(fid, cdw11);
    return NvmeStatus.success;
  }

  /** A controller level reset: saved values, else defaults, are current again. */
  reset(): void {
    this.current.clear();
    for (const [key, value] of this.saved) this.current.set(key, value);
    this.uncoalesced.clear();
    this.hostId.fill(0);
    this.hostIdBytes = HOST_ID_BYTES;
    this.temperatureOver = TEMPERATURE_OVER_INITIAL;
    this.temperatureUnder = 0;
    for (const [fid, def] of DEFS) if (!def.perNamespace) this.changed(fid, this.value(fid));
  }

  private isNamespace(nsid: number): boolean {
    return nsid >= 1 && nsid <= this.options.namespaces.length;
  }

  private getSpecial(fid: number, select: number, cdw11: number): FeatureValue {
    const isDefault = select !== FeatureSelect.current;
    const queues = this.options.ioQueues - 1;
    switch (fid) {
      case Feature.numberOfQueues:
        return succeeded((queues | (queues << 16)) >>> 0);
      case Feature.temperatureThreshold: {
        const type = TEMPERATURE_THSEL.get(cdw11);
        if (TEMPERATURE_TMPSEL.get(cdw11) !== 0 || type > 1) return failed(NvmeStatus.invalidField);
        if (isDefault) return succeeded(type === 0 ? TEMPERATURE_OVER_INITIAL : 0);
        return succeeded(type === 0 ? this.temperatureOver : this.temperatureUnder);
      }
      case Feature.interruptVectorConfiguration: {
        const vector = VECTOR_IV.get(cdw11);
        if (vector >= this.options.vectors) return failed(NvmeStatus.invalidField);
        const off = !isDefault && this.uncoalesced.has(vector) ? 1 : 0;
        return succeeded(VECTOR_CD.set(vector, off));
      }
      default:
        return succeeded(0);
    }
  }

  private setSpecial(fid: number, cdw11: number): number {
    if (fid === Feature.temperatureThreshold) {
      const sensor = TEMPERATURE_TMPSEL.get(cdw11);
      const type = TEMPERATURE_THSEL.get(cdw11);
      // Sensor Fh is all of them, and this controller reports the composite alone.
      if ((sensor !== 0 && sensor !== 15) || type > 1) return NvmeStatus.invalidField;
      if (type === 0) this.temperatureOver = TEMPERATURE_TMPTH.get(cdw11);
      else this.temperatureUnder = TEMPERATURE_TMPTH.get(cdw11);
      this.changed(fid, cdw11);
      return NvmeStatus.success;
    }
    const vector = VECTOR_IV.get(cdw11);
    if (vector >= this.options.vectors) return NvmeStatus.invalidField;
    if (VECTOR_CD.get(cdw11) === 1) this.uncoalesced.add(vector);
    else this.uncoalesced.delete(vector);
    return NvmeStatus.success;
  }
}

const keyOf = (fid: number, nsid: number): number => nsid * 256 + fid;

function capabilities(fid: number, def: FeatureDef | undefined): number {
  if (def === undefined) return SPECIAL.get(fid) ?? 0;
  return (
    FEATURE_CAP_CHANGEABLE |
    (def.saveable ? FEATURE_CAP_SAVEABLE : 0) |
    (def.perNamespace ? FEATURE_CAP_NAMESPACE : 0)
  );
}
