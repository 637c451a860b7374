// The admin port (loopback only): what this ztunnel knows, its log level, and its shutdown (ztunnel.md §11.3).

import type { Store } from '#model/store.ts';
import type { LogLevel } from '#telemetry/log.ts';
import type { SecretManager } from '#tls/secret.ts';
import { parseLogLevel, type ZtunnelConfig } from './config.ts';
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
import type { Connections } from './connections.ts';
import { type HttpAnswer, type HttpRequest, type HttpRoutes, onlyPost } from './http.ts';
import type { PodInfo, Pods } from './pods.ts';
import { versionInfo } from './version.ts';

export interface LogControl {
  level: LogLevel;
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
}

const LOGGING_HELP =
  'usage: POST /logging\t\t\t(list the current level)\nPOST /logging?level=<debug|info|warn|error>\nPOST /logging?reset\n';

export function adminRoutes(deps: AdminDeps): HttpRoutes {
  const defaultLevel = deps.logControl.level;
  return {
    '/': () => ({ contentType: 'text/html; charset=utf-8', body: INDEX }),
    '/config_dump': () => ({
      contentType: 'application/json',
      body: printDump(configDump(deps)),
    }),
    '/logging': (request) => logging(deps.logControl, defaultLevel, request),
    '/quitquitquit': (request) => {
      const refusal = onlyPost(request, 'only POST is allowed for quitquitquit\n');
      if (refusal !== undefined) return refusal;
      deps.shutdown();
      return { body: 'shutdown now\n' };
    },
  };
}

function logging(control: LogControl, defaultLevel: LogLevel, request: HttpRequest): HttpAnswer {
  const refusal = onlyPost(request, LOGGING_HELP);
  if (refusal !== undefined) return refusal;
  const wanted = request.query.get('level');
  if (request.query.has('reset')) control.level = defaultLevel;
  if (wanted !== null) {
    const level = parseLogLevel(wanted);
    if (level === undefined)
      return { status: 400, body: `invalid level ${JSON.stringify(wanted)}\n${LOGGING_HELP}` };
    control.level = level;
  }
  return { body: `current log level is ${control.level}\n` };
}

function configDump(deps: AdminDeps): { readonly [key: string]: Json } {
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
    workloadState: workloadState(deps),
    workloads: [...store.workloads()].sort((a, b) => compare(a.uid, b.uid)).map(dumpWorkload),
  };
}

function workloadState({ pods, connections, pending }: AdminDeps): Json {
  const states: Record<string, Json> = {};
  for (const [uid, info] of pending())
    states[uid] = { state: 'Pending', info: { ...info }, connections: { inbound: [], outbound: [] } };
  for (const [uid, { info }] of pods.entries()) {
    const { inbound, outbound } = connections.of(uid);
    states[uid] = {
      state: 'Up',
      info: { ...info },
      connections: {
        inbound: inbound.map((view) => ({ ...view })),
        outbound: outbound.map((view) => ({ ...view })),
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
<li>POST quitquitquit: shut down</li>
</ul></body></html>
`;
