// `/debug/pprof/…` of node proxy and control plane, with the parameters and limits of ztunnel.md §11.3. The profiler itself is
// loaded when asked for.

import type { Profiler } from './profile.ts';

export interface ProfileRequest {
  readonly query: URLSearchParams;
}

export interface ProfileAnswer {
  readonly status?: number;
  readonly contentType?: string;
  readonly body: string | Uint8Array;
}

export type ProfileRoutes = Readonly<
  Record<string, (request: ProfileRequest) => ProfileAnswer | Promise<ProfileAnswer>>
>;

const PROTOBUF = 'application/octet-stream';

export function profileRoutes(): ProfileRoutes {
  let loading: Promise<Profiler> | undefined;
  const profiler = (): Promise<Profiler> => {
    loading ??= import('./profile.ts').then(({ createProfiler }) => createProfiler());
    return loading;
  };
  return {
    '/debug/pprof/profile': async (request) => {
      const seconds = numberIn(request, 'seconds', 10, 300);
      if (typeof seconds !== 'number') return seconds;
      const frequencyHz = numberIn(request, 'frequency', 100, 1000);
      if (typeof frequencyHz !== 'number') return frequencyHz;
      return { contentType: PROTOBUF, body: await (await profiler()).cpu({ seconds, frequencyHz }) };
    },
    '/debug/pprof/heap': async () => {
      const heap = loading === undefined ? undefined : await (await loading).heap();
      if (heap === undefined)
        return {
          status: 500,
          body: 'heap profiling not active; activate with /debug/pprof/heap/profiling?activate=true\n',
        };
      const { gzip } = await import('./gzip.ts');
      return { contentType: PROTOBUF, body: gzip(heap) };
    },
    '/debug/pprof/heap/profiling': async ({ query }) => {
      const wanted = query.get('activate');
      if (wanted !== null && wanted !== 'true' && wanted !== 'false')
        return { status: 400, body: 'invalid activate value; expected true or false\n' };
      if (wanted !== null) await (await profiler()).setHeapSampling(wanted === 'true');
      const isActive = loading !== undefined && (await loading).isHeapSampling;
      return { body: `heap profiling active: ${isActive}\n` };
    },
  };
}

function numberIn(
  { query }: ProfileRequest,
  name: string,
  fallback: number,
  most: number,
): number | ProfileAnswer {
  const text = query.get(name);
  if (text === null) return fallback;
  const value = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  return value >= 1 && value <= most
    ? value
    : { status: 400, body: `invalid ${name} value; expected 1-${most}\n` };
}
