// Which lines are written: one threshold for all scopes, others for single ones, in the directives that RUST_LOG and
// `/logging` know (`access=debug,info`). A scope's directive covers the scopes below it (`proxy` also `proxy::inbound`).

export type LogThreshold = 'debug' | 'info' | 'warn' | 'error' | 'off';

export interface LogFilter {
  readonly level: LogThreshold;
  readonly scopes: ReadonlyMap<string, LogThreshold>;
}

/** The field writes its own scopes with the name of its program in front. */
const PROGRAM_PREFIX = /^ztunnel::/;
const SCOPE = /^[A-Za-z_][\w:.-]*$/;

/**
 * `text` laid over `base`: what it does not name stays. Undefined when a directive is neither a level nor `scope=level`.
 * `trace` counts as debug.
 */
export function parseLogFilter(text: string, base: LogFilter): LogFilter | undefined {
  let { level } = base;
  const scopes = new Map(base.scopes);
  for (const directive of text.split(',')) {
    const [left, right, ...more] = directive.split('=').map((part) => part.trim());
    if (more.length > 0) return undefined;
    const threshold = parseThreshold(right ?? left!);
    if (threshold === undefined) return undefined;
    if (right === undefined) level = threshold;
    else {
      const scope = left!.replace(PROGRAM_PREFIX, '');
      if (!SCOPE.test(scope)) return undefined;
      scopes.set(scope, threshold);
    }
  }
  return { level, scopes };
}

/** Longest scope first, the general level last, as the field prints them. */
export function formatLogFilter({ level, scopes }: LogFilter): string {
  const directives = [...scopes]
    .sort(([a], [b]) => b.length - a.length || (a < b ? -1 : 1))
    .map(([scope, threshold]) => `${scope}=${threshold}`);
  return [...directives, level].join(',');
}

/** The most specific directive that covers the scope. */
export function thresholdOf(scope: string, filter: LogFilter): LogThreshold {
  for (let name = scope; name !== ''; ) {
    const found = filter.scopes.get(name);
    if (found !== undefined) return found;
    const end = name.lastIndexOf('::');
    name = end < 0 ? '' : name.slice(0, end);
  }
  return filter.level;
}

function parseThreshold(text: string): LogThreshold | undefined {
  switch (text.toLowerCase()) {
    case 'trace':
    case 'debug':
      return 'debug';
    case 'info':
      return 'info';
    case 'warn':
      return 'warn';
    case 'error':
      return 'error';
    case 'off':
      return 'off';
    default:
      return undefined;
  }
}
