// Reads ztunnel's access-log lines (plain form, ztunnel.md §11.2) back into fields. Pure; used by the live view.

export interface AccessRecord {
  /** RFC 3339, as logged. */
  readonly time: string;
  readonly level: string;
  readonly message: string;
  readonly fields: ReadonlyMap<string, string>;
}

/** Undefined for lines of other scopes and for text that is no log line. */
export function parseAccessLine(line: string): AccessRecord | undefined {
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
