// Log lines in ztunnel's two formats (ztunnel.md §11.2): plain (tab-separated) and JSON, one line each.

import { type LogThreshold, thresholdOf } from './log-filter.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
/** Strings are quoted in the plain form; a `bare()` value and numbers are not. Undefined fields are left out. */
export type LogFields = Readonly<Record<string, LogValue>>;
export type LogValue = string | number | boolean | Bare | undefined;

/** Text that the plain form prints without quotes (addresses). */
export class Bare {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}
export const bare = (text: string): Bare => new Bare(text);

const RANK: Readonly<Record<LogThreshold, number>> = { debug: 0, info: 1, warn: 2, error: 3, off: 4 };
const NO_SCOPES: ReadonlyMap<string, LogThreshold> = new Map();

/** `message` may be empty: then the fields say everything. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  enabled(level: LogLevel): boolean;
  /** The same sink under another scope name. */
  scoped(scope: string): Logger;
}

export interface LogOptions {
  readonly format: 'plain' | 'json';
  /** The least that is written; may change at any time, as may `scopes`. */
  readonly level: LogThreshold;
  /** Scopes with a threshold of their own. */
  readonly scopes?: ReadonlyMap<string, LogThreshold>;
  /** Receives whole lines with their newline. */
  readonly write: (line: string) => void;
  readonly now?: () => Date;
}

export function createLogger(scope: string, options: LogOptions): Logger {
  const now = options.now ?? (() => new Date());
  const enabled = (level: LogLevel): boolean => {
    const { level: general, scopes = NO_SCOPES } = options;
    const threshold = scopes.size === 0 ? general : thresholdOf(scope, { level: general, scopes });
    return RANK[level] >= RANK[threshold];
  };
  const emit = (level: LogLevel, message: string, fields: LogFields | undefined): void => {
    if (!enabled(level)) return;
    const line = options.format === 'json' ? jsonLine : plainLine;
    options.write(line(now(), level, scope, message, fields ?? {}));
  };
  return {
    debug: (message, fields) => emit('debug', message, fields),
    info: (message, fields) => emit('info', message, fields),
    warn: (message, fields) => emit('warn', message, fields),
    error: (message, fields) => emit('error', message, fields),
    enabled,
    scoped: (name) => createLogger(name, options),
  };
}

/** A logger for tests and for callers that want silence. */
export const silentLogger: Logger = createLogger('silent', {
  format: 'plain',
  level: 'error',
  write: () => {},
});

function timestamp(at: Date): string {
  // Date has milliseconds; the field's lines carry microseconds.
  return at.toISOString().replace('Z', '000Z');
}

function plainLine(at: Date, level: LogLevel, scope: string, message: string, fields: LogFields): string {
  // Records that are all fields have no message, and no column for one.
  let line = `${timestamp(at)}\t${level}\t${scope}\t${message === '' ? '' : `${message}\t`}`;
  let separator = '';
  for (const key in fields) {
    const value = fields[key];
    if (value === undefined) continue;
    line += `${separator}${key}=${value instanceof Bare ? value.text : typeof value === 'string' ? JSON.stringify(value) : value}`;
    separator = ' ';
  }
  return `${line}\n`;
}

function jsonLine(at: Date, level: LogLevel, scope: string, message: string, fields: LogFields): string {
  const record: Record<string, unknown> = { level, time: timestamp(at), scope };
  if (message !== '') record.message = message;
  for (const key in fields) {
    const value = fields[key];
    if (value !== undefined) record[key] = value instanceof Bare ? value.text : value;
  }
  return `${JSON.stringify(record)}\n`;
}
