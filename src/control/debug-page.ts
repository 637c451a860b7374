// How a debug page is asked for and answered, over HTTP and over xDS alike (control-plane.md §10.1): who may see which,
// what a page may be told, and why a page that istiod has is not here.

export interface DebugQuery {
  readonly parameters: URLSearchParams;
  /** Whose proxies the caller may see; undefined: everybody's. */
  readonly namespace: string | undefined;
  /** Pages that are served beside these where the question came in. */
  readonly besides: readonly string[];
}

export type DebugAnswer =
  | { readonly status: 200; readonly content: unknown }
  | { readonly status: 400 | 403 | 404; readonly explain: string };

/** By name; sorted. */
export type DebugPages = ReadonlyMap<string, (query: DebugQuery) => DebugAnswer>;

/** What callers outside the system namespace may ask of their own proxies; `edsz` and `ndsz` would be, too. */
const FOR_EVERYBODY: ReadonlySet<string> = new Set(['config_dump', 'edsz', 'ndsz']);

export function askDebugPage(pages: DebugPages, name: string, query: DebugQuery): DebugAnswer {
  const page = pages.get(name);
  if (query.namespace !== undefined && !FOR_EVERYBODY.has(name))
    return {
      status: 403,
      explain: `accounts of ${query.namespace} may see config_dump of their own proxies, and no other page`,
    };
  return page?.(query) ?? { status: 404, explain: whyAbsent(name, [...pages.keys(), ...query.besides]) };
}

const ENVOY_ONLY = 'it is about what Envoy proxies are configured with, and none is served here';
const GO_ONLY = "it is about Go's runtime";

/** Pages of istiod that make no sense here. */
export const ABSENT_PAGES: ReadonlyMap<string, string> = new Map([
  [
    'cachez',
    'nothing is cached for single proxies: what is published is encoded once for all (see ambientz)',
  ],
  ['ecdsz', ENVOY_ONLY],
  ['edsz', ENVOY_ONLY],
  ['endpointShardz', ENVOY_ONLY],
  ['endpointz', ENVOY_ONLY],
  ['inject', 'no sidecars are injected'],
  ['instancesz', 'it is about the services of sidecars, and none is served here'],
  ['mcsz', 'services of several clusters (MCS) are not supported'],
  ['ndsz', 'it is about the names that sidecars resolve; node proxies resolve from what ambientz shows'],
  ['pprof/', 'list names the profiles'],
  ['pprof/allocs', GO_ONLY],
  ['pprof/block', GO_ONLY],
  ['pprof/cmdline', GO_ONLY],
  ['pprof/goroutine', GO_ONLY],
  ['pprof/mutex', GO_ONLY],
  ['pprof/symbol', GO_ONLY],
  ['pprof/threadcreate', GO_ONLY],
  ['pprof/trace', GO_ONLY],
  ['pushcontext', 'nothing is computed for a push as a whole: see krtz, authorizationz and networkz'],
  ['registryz', 'there are no service registries besides the ambient index: see ambientz and krtz'],
  ['resourcesz', 'informerz shows which kinds are watched'],
  ['sidecarz', 'it is about the scope of a sidecar, and none is served here'],
  ['telemetryz', 'Telemetry resources are not read'],
]);

/** Pages that only a setting opens, and where. */
const SWITCHED_PAGES: ReadonlyMap<string, string> = new Map([
  ['force_disconnect', 'with UNSAFE_ENABLE_ADMIN_ENDPOINTS=true'],
  ['pprof/heap', 'over HTTP with ENABLE_PROFILING=true'],
  ['pprof/heap/profiling', 'over HTTP with ENABLE_PROFILING=true'],
  ['pprof/profile', 'over HTTP with ENABLE_PROFILING=true'],
]);

function whyAbsent(name: string, served: readonly string[]): string {
  const reason = ABSENT_PAGES.get(name);
  if (reason !== undefined) return `there is no debug page ${name}: ${reason}`;
  const where = SWITCHED_PAGES.get(name);
  if (where !== undefined) return `debug page ${name} is served ${where} only`;
  return `there is no debug page ${name}; there are ${served.toSorted().join(', ')}`;
}

export const debugText = (content: unknown): string => `${JSON.stringify(content, jsonValue, 2)}\n`;

/** Maps become objects; the rest is JSON already. */
function jsonValue(_key: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}
