/**
 * The log of a running target: an event with fields, as a line for people (`time event
 * key="value"`) or as one JSON object a line. Times are the wall clock's, in UTC.
 *
 * Invariant: a line is one line, whatever a host put into a field.
 */

import type { Clock } from "../../platform/index.ts";
import { LOG_LEVELS } from "./schema.ts";

export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFields = Readonly<Record<string, string | number | boolean>>;

export interface LogOptions {
  readonly format: "text" | "json";
  readonly level: LogLevel;
  readonly clock: Clock;
  readonly write: (text: string) => void;
}

export class TargetLog {
  level: LogLevel;
  private readonly options: LogOptions;

  constructor(options: LogOptions) {
    this.options = options;
    this.level = options.level;
  }

  /** One event; nothing when it is less severe than the level. */
  event(level: LogLevel, event: string, fields: LogFields = {}): void {
    if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(this.level)) return;
    const { clock, format, write } = this.options;
    const time = new Date(clock.wallMs()).toISOString();
    if (format === "json") {
      write(`${JSON.stringify({ time, level, event, ...fields })}\n`);
      return;
    }
    const pairs = Object.entries(fields).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
    write(`${[time, event, ...pairs].join(" ")}\n`);
  }
}
