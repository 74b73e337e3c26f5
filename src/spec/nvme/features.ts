/**
 * Features (NVM Express Base 2.0, sections 5.27 Set Features and 5.15 Get Features; NVM Command Set
 * 1.0, section 4.1.3): identifiers, the dwords that carry their values, and what Get Features can
 * select.
 */

import { bit, field } from "../../core/index.ts";

export const Feature = {
  arbitration: 0x01,
  powerManagement: 0x02,
  lbaRangeType: 0x03,
  temperatureThreshold: 0x04,
  errorRecovery: 0x05,
  volatileWriteCache: 0x06,
  numberOfQueues: 0x07,
  interruptCoalescing: 0x08,
  interruptVectorConfiguration: 0x09,
  writeAtomicity: 0x0a,
  asyncEventConfiguration: 0x0b,
  autonomousPowerStateTransition: 0x0c,
  hostMemoryBuffer: 0x0d,
  timestamp: 0x0e,
  keepAliveTimer: 0x0f,
  hostControlledThermalManagement: 0x10,
  nonOperationalPowerStateConfig: 0x11,
  readRecoveryLevel: 0x12,
  hostBehaviorSupport: 0x16,
  ioCommandSetProfile: 0x19,
  softwareProgressMarker: 0x80,
  hostIdentifier: 0x81,
  reservationNotificationMask: 0x82,
  reservationPersistence: 0x83,
  namespaceWriteProtection: 0x84,
} as const;
export type Feature = (typeof Feature)[keyof typeof Feature];

/** Set Features and Get Features, CDW10. */
export const FEATURE_FID = field(0, 8);
/** Get Features: which value. */
export const FEATURE_SEL = field(8, 3);
/** Set Features: keep the value over power cycles. */
export const FEATURE_SV = bit(31);
export const FeatureSelect = { current: 0, default: 1, saved: 2, supported: 3 } as const;
/** Dword 0 that Get Features returns for SEL 3. */
export const FEATURE_CAP_SAVEABLE = 0x1;
export const FEATURE_CAP_NAMESPACE = 0x2;
export const FEATURE_CAP_CHANGEABLE = 0x4;

/** CDW11 of each feature. */
export const ARBITRATION_AB = field(0, 3);
export const ARBITRATION_LPW = field(8, 8);
export const ARBITRATION_MPW = field(16, 8);
export const ARBITRATION_HPW = field(24, 8);
export const POWER_PS = field(0, 5);
export const POWER_WH = field(5, 3);
export const TEMPERATURE_TMPTH = field(0, 16);
export const TEMPERATURE_TMPSEL = field(16, 4);
export const TEMPERATURE_THSEL = field(20, 2);
export const ERROR_RECOVERY_TLER = field(0, 16);
export const ERROR_RECOVERY_DULBE = bit(16);
export const VWC_WCE = bit(0);
/** Requested and, in the completion, allocated; 0's based. */
export const QUEUES_NSQ = field(0, 16);
export const QUEUES_NCQ = field(16, 16);
export const COALESCING_THR = field(0, 8);
export const COALESCING_TIME = field(8, 8);
export const VECTOR_IV = field(0, 16);
export const VECTOR_CD = bit(16);
export const ATOMICITY_DN = bit(0);
/** SMART critical warnings that raise an event; the notices above them are the OAES bits. */
export const ASYNC_SMART = field(0, 8);
export const HOST_ID_EXHID = bit(0);
/** Namespace Write Protection Config, bits 2:0. */
export const WRITE_PROTECTION_STATE = field(0, 3);

/** Bytes of the Host Identifier, short and extended (EXHID). */
export const HOST_ID_BYTES = 8;
export const HOST_ID_EXTENDED_BYTES = 16;
