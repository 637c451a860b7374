// The admin port (loopback only): what this ztunnel knows, its log level, and its shutdown (ztunnel.md §11.3).

import type { Store } from '#model/store.ts';
import { formatLogFilter, type LogFilter, type LogThreshold, parseLogFilter } from '#telemetry/log-filter.ts';
import { profileRoutes } from '#telemetry/profile-routes.ts';
import type { SecretManager } from '#tls/secret.ts';
import type { ZtunnelConfig } from './config.ts';
import {
  dumpCertificates,
  dumpConfig,
  dumpEndpoint,
  dumpPolicy,
  dumpService,
  dumpWorkload,
  type Json,
  printDump,
} from './config-dump.ts';
import type { Connections, PodConnections } from './connections.ts';
import { type HttpAnswer, type HttpRequest, type HttpRoutes, onlyPost } from './http.ts';
import type { PodInfo, Pods } from './pods.ts';
import { versionInfo } from './version.ts';
import type { Workers } from './workers/group.ts';

export interface LogControl {
  level: LogThreshold;
  scopes?: ReadonlyMap<string, LogThreshold>;
}

export interface AdminDeps {
  readonly store: Store;
  readonly secrets: Pick<SecretManager, 'entries'>;
  readonly connections: Connections;
  readonly pods: Pods;
  /** Pods whose listeners could not be bound yet. */
  readonly pending: () => ReadonlyMap<string, PodInfo>;
  readonly config: ZtunnelConfig;
  readonly logControl: LogControl;
  readonly shutdown: () => void;
  /** Absent: this thread serves alone. */
  readonly workers?: Pick<Workers, 'connections' | 'logFilter' | 'resources'> | undefined;
}

const LOGGING_HELP = `usage: POST /logging                               (list the current level)
usage: POST /logging?level=<level>                 (change the level of everything without one of its own)
usage: POST /logging?level=<scope>=<level>,<level> (change single scopes, such as access, proxy, xds)
usage: POST /logging?reset                         (back to the level at the start)
levels: error, warn, info, debug, trace, off
`;

export function adminRoutes(deps: AdminDeps): HttpRoutes {
  const atStart = filterOf(deps.logControl);
  return {
    '/': () => ({ contentType: 'text/html; charset=utf-8', body: INDEX }),
    '/config_dump': async () => ({
      contentType: 'application/json',
      body: printDump(configDump(deps, (await deps.workers?.connections()) ?? [])),
    }),
    ...profileRoutes(),
    '/debug/resources': async () => ({
      contentType: 'application/json',
      body: `${JSON.stringify(resourcesOf([process.getActiveResourcesInfo(), ...((await deps.workers?.resources()) ?? [])]), null, 2)}\n`,
    }),
    '/logging': (request) => logging(deps, atStart, request),
    '/quitquitquit': (request) => {
      const refusal = onlyPost(request, 'only POST is allowed for quitquitquit\n');
      if (refusal !== undefined) return refusal;
      deps.shutdown();
      return { body: 'shutdown now\n' };
    },
  };
}

/** What the event loops of all threads wait for, by kind: listeners (TCPServerWrap), sockets, timers. A leak shows here first. */
function resourcesOf(threads: readonly (readonly string[])[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const kind of threads.flat().sort()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function filterOf({ level, scopes = new Map() }: LogControl): LogFilter {
  return { level, scopes };
}

function logging(
  { logControl: control, workers }: AdminDeps,
  atStart: LogFilter,
  request: HttpRequest,
): HttpAnswer {
  const refusal = onlyPost(request, LOGGING_HELP);
  if (refusal !== undefined) return refusal;
  const wanted = request.query.get('level');
  const base: LogFilter = request.query.has('reset') ? atStart : filterOf(control);
  // istioctl asks for the levels by naming an empty one.
  const next = wanted === null || wanted === '' ? base : parseLogFilter(wanted, base);
  if (next === undefined)
    return { status: 400, body: `Invalid level provided: ${wanted}\n\n${LOGGING_HELP}` };
  control.level = next.level;
  control.scopes = next.scopes;
  workers?.logFilter(next);
  return { body: `current log level is ${formatLogFilter(next)}\n` };
}

/** Connections of a pod by its uid, in another thread. */
type Elsewhere = readonly ReadonlyMap<string, PodConnections>[];

function configDump(deps: AdminDeps, elsewhere: Elsewhere): { readonly [key: string]: Json } {
  const { store, config } = deps;
  const stagedServices: Record<string, Json> = {};
  for (const [key, endpoints] of store.stagedEndpoints()) {
    const byUid: Record<string, Json> = {};
    for (const [uid, workload] of endpoints)
      byUid[uid] = dumpEndpoint({
        workloadUid: uid,
        ports: workload.services.get(key) ?? new Map(),
        status: workload.status,
      });
    stagedServices[key] = byUid;
  }
  return {
    certificates: dumpCertificates(deps.secrets.entries()),
    config: dumpConfig(config),
    policies: [...store.policies()].map(dumpPolicy),
    services: [...store.services()]
      .sort((a, b) => compare(a.service.hostname, b.service.hostname))
      .map(({ key, service, endpoints }) =>
        dumpService(
          service,
          [...endpoints.values()].map((workload) => ({
            workloadUid: workload.uid,
            ports: workload.services.get(key) ?? new Map(),
            status: workload.status,
          })),
        ),
      ),
    stagedServices,
    staticConfig: { workloads: [], policies: [], services: [] },
    version: versionInfo(config.istioVersion),
    workloadState: workloadState(deps, elsewhere),
    workloads: [...store.workloads()].sort((a, b) => compare(a.uid, b.uid)).map(dumpWorkload),
  };
}

function workloadState({ pods, connections, pending }: AdminDeps, elsewhere: Elsewhere): Json {
  const states: Record<string, Json> = {};
  for (const [uid, info] of pending())
    states[uid] = { state: 'Pending', info: { ...info }, connections: { inbound: [], outbound: [] } };
  for (const [uid, { info }] of pods.entries()) {
    const held = [connections.of(uid), ...elsewhere.flatMap((thread) => thread.get(uid) ?? [])];
    states[uid] = {
      state: 'Up',
      info: { ...info },
      connections: {
        inbound: held.flatMap(({ inbound }) => inbound.map((view) => ({ ...view }))),
        outbound: held.flatMap(({ outbound }) => outbound.map((view) => ({ ...view }))),
      },
    };
  }
  return states;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const INDEX = `<!DOCTYPE html>
<html><head><title>ztunnel</title></head><body><h1>Culvert ztunnel: admin</h1><ul>
<li><a href="config_dump">config_dump</a>: workloads, services, policies, certificates, connections, settings</li>
<li>POST logging: list or change the log level</li>
<li><a href="debug/pprof/profile">debug/pprof/profile</a>: a CPU profile; ?seconds=1-300 (10), ?frequency=1-1000 Hz (100)</li>
<li><a href="debug/pprof/heap">debug/pprof/heap</a>: a heap profile, while sampling is on</li>
<li><a href="debug/pprof/heap/profiling">debug/pprof/heap/profiling</a>: is it? ?activate=true|false switches it</li>
<li><a href="debug/resources">debug/resources</a>: listeners, sockets and timers of the event loops, counted</li>
<li>POST quitquitquit: shut down</li>
</ul></body></html>
`;
