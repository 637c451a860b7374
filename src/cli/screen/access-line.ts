// Reads ztunnel's access-log lines (plain or JSON, ztunnel.md §11.2) back into fields. Pure.

export interface AccessRecord {
  /** RFC 3339, as logged. */
  readonly time: string;
  readonly level: string;
  readonly message: string;
  readonly fields: ReadonlyMap<string, string>;
}

/** Undefined for lines of other scopes and for text that is no log line. */
export function parseAccessLine(line: string): AccessRecord | undefined {
  if (line.startsWith('{')) return parseJsonLine(line);
  const [time, level, scope, message, rest] = line.split('\t');
  if (time === undefined || level === undefined || scope !== 'access' || message === undefined)
    return undefined;
  const fields = new Map<string, string>();
  for (const [, key, quoted, bare] of (rest ?? '').matchAll(/([\w.]+)=(?:("(?:[^"\\]|\\.)*")|(\S+))/g)) {
    fields.set(key as string, quoted === undefined ? (bare as string) : unquote(quoted));
  }
  return { time, level, message, fields };
}

function unquote(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.slice(1, -1);
  }
}

function parseJsonLine(line: string): AccessRecord | undefined {
  let parsed: Readonly<Record<string, unknown>>;
  try {
    parsed = JSON.parse(line) as typeof parsed;
  } catch {
    return undefined; // a program's own output may begin with a brace
  }
  const { time, level, scope, message, ...rest } = parsed;
  if (typeof time !== 'string' || typeof level !== 'string' || typeof message !== 'string') return undefined;
  if (scope !== 'access') return undefined;
  const fields = new Map<string, string>();
  for (const [key, value] of Object.entries(rest))
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
      fields.set(key, String(value));
  return { time, level, message, fields };
}
