// The xDS server (control-plane.md §4): delta streams of any number of resource types, debug types besides, and further
// services on the same port. Which response a client gets is subscription.ts; this file authenticates, gathers changes,
// and knows the clients.

import { MeshError, reasonOf } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { type GrpcMethod, type ServingCertificate, startGrpcServer } from '#grpc/server.ts';
import type { ServerCall } from '#grpc/server-call.ts';
import { GRPC_UNAUTHENTICATED, GRPC_UNAVAILABLE, statusError, statusOf } from '#grpc/status.ts';
import { DELTA_DISCOVERY_PATH } from '#proto/discovery.ts';
import type { Logger } from '#telemetry/log.ts';
import { DEFAULT_NEW_STREAMS_PER_SECOND, rateLimit } from './admission.ts';
import {
  ClientStream,
  type ClientStreamDeps,
  type XdsClientInfo,
  type XdsObserver,
} from './client-stream.ts';
import { type DebounceOptions, debounce } from './debounce.ts';
import { SharedSource } from './shared-source.ts';
import type { AnswerDebug, Caller, ResourceSource, XdsResource } from './source.ts';
import { STATE_OF_THE_WORLD_PATH, serveDebugStream } from './state-of-the-world.ts';

export interface XdsServerDeps {
  /** In the order in which their changes are pushed. */
  readonly sources: readonly ResourceSource[];
  /** Rejects when nobody can be recognised; the client sees `Unauthenticated` and the reason. */
  readonly authenticate: (header: (name: string) => string | undefined) => Promise<Caller>;
  readonly log: Logger;
  /** Further methods on the same port, such as the certificate authority's. */
  readonly methods?: ReadonlyMap<string, GrpcMethod>;
  readonly answerDebug?: AnswerDebug;
  readonly observe?: XdsObserver & {
    /** `gatheredSeconds`: from the first change to the push. */
    push?(names: number, gatheredSeconds: number): void;
  };
}

export interface XdsServerOptions {
  readonly listen: { readonly host: string; readonly port: number } | { readonly fd: number };
  readonly tls: ServingCertificate;
  readonly debounce?: DebounceOptions;
  readonly maxPendingNames?: number;
  readonly identityCheck?: boolean;
  /** New streams a second (`PILOT_MAX_REQUESTS_PER_SECOND`). */
  readonly newStreamsPerSecond?: number;
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
  /** Over how long a closing server lets its clients go, at most. */
  readonly farewellMs?: number;
  /** Identifier of the control plane in every response: JSON. */
  readonly controlPlane?: string;
}

export interface XdsServer {
  readonly port: number;
  /** For new connections; established ones keep theirs. */
  setCertificate(certificate: ServingCertificate): void;
  clients(): readonly XdsClientInfo[];
  /** What the client of this id is to have of the type, as it is now. */
  resources(clientId: number, typeUrl: string): Iterable<XdsResource>;
  /** Ends the stream of the client, which will come back. */
  disconnect(clientId: number): void;
  /** New connections are refused; the clients are sent away one after another and served until then. */
  close(): Promise<void>;
}

export const DEFAULT_DEBOUNCE: DebounceOptions = { quietMs: 100, maxMs: 10_000, firstMs: 5 };
const MAX_PENDING_NAMES = 65_536;
/** Between a status that a client ought to read and the reset that it cannot ignore. */
const CUT_OFF_MS = 1000;
const FAREWELL_MS = 5000;
/** Apart enough that who takes the clients over is not met by all of them at once. */
const FAREWELL_STEP_MS = 10;
/** By the first words node proxies know an end that belongs to the life of a server, and come back at once (ztunnel.md §3.5). */
const GOING_AWAY = {
  code: GRPC_UNAVAILABLE,
  message: 'transport is closing: the control plane is going away',
};
const SENT_AWAY = {
  code: GRPC_UNAVAILABLE,
  message: 'transport is closing: somebody asked to have this stream ended',
};

/** Resolves once the port is open. */
export async function startXdsServer(deps: XdsServerDeps, options: XdsServerOptions): Promise<XdsServer> {
  const { log, observe = {}, answerDebug } = deps;
  const scope = new Scope('xds server');
  const streams = new Set<ClientStream>();
  let pushes = 0;
  let nextId = 0;
  let version = versionOf(pushes);

  const onChange = debounce(scope, options.debounce ?? DEFAULT_DEBOUNCE, (changed, changedAt) => {
    version = versionOf(++pushes);
    let names = 0;
    for (const set of changed.values()) names += set.size;
    const pushedAt = performance.now();
    observe.push?.(names, (pushedAt - changedAt) / 1000);
    log.debug('xDS push', { names, clients: streams.size });
    for (const stream of streams) stream.onPush(changed, { changedAt, pushedAt });
  });
  const sources = deps.sources.map((source) => {
    if (source.changesWith === undefined)
      scope.onClose(source.onChange((names) => onChange(source.typeUrl, names)));
    const shared = new SharedSource(source);
    scope.onClose(() => shared.close());
    return shared;
  });

  const streamDeps: ClientStreamDeps = {
    sources,
    log,
    version: () => version,
    controlPlane: options.controlPlane ?? '',
    answerDebug,
    cutOff: (stream) => {
      scope.timeout(CUT_OFF_MS, () => {
        if (streams.has(stream)) stream.reset();
      });
    },
    observe,
  };
  const identityCheck = options.identityCheck ?? true;
  const streamOptions = { maxPendingNames: options.maxPendingNames ?? MAX_PENDING_NAMES, identityCheck };
  const admit = rateLimit(options.newStreamsPerSecond ?? DEFAULT_NEW_STREAMS_PER_SECOND);

  const serve = (call: ServerCall, caller: Caller): void => {
    const stream = new ClientStream(nextId++, caller, call, streamDeps, streamOptions);
    streams.add(stream);
    call.onClose(() => {
      streams.delete(stream);
      log.debug('xDS client gone', { node: stream.info().node ?? '' });
    });
    stream.start();
  };
  /** A method for those who can be recognised. */
  const authenticated =
    (take: (call: ServerCall, caller: Caller) => void): GrpcMethod =>
    (call) => {
      const begin = async (): Promise<void> => {
        await admit();
        const caller = await callerOf(deps, call);
        if (!call.closed) take(call, caller);
      };
      begin().catch((error: unknown) => call.end(statusOf(error)));
    };
  const methods = new Map([...(deps.methods ?? []), [DELTA_DISCOVERY_PATH, authenticated(serve)]]);
  if (answerDebug !== undefined)
    methods.set(
      STATE_OF_THE_WORLD_PATH,
      authenticated((call, caller) =>
        serveDebugStream(call, caller, { ...streamDeps, answerDebug }, identityCheck),
      ),
    );
  const streamOf = (id: number): ClientStream | undefined => [...streams].find((stream) => stream.id === id);
  const server = await startGrpcServer({ log, methods }, options);

  return {
    port: server.port,
    setCertificate: (certificate) => server.setCertificate(certificate),
    clients: () => [...streams].map((stream) => stream.info()),
    resources: (clientId, typeUrl) => streamOf(clientId)?.resources(typeUrl) ?? [],
    disconnect: (clientId) => streamOf(clientId)?.end(SENT_AWAY),
    close: async () => {
      server.drain();
      const leaving = [...streams].sort(() => Math.random() - 0.5);
      const stepMs = Math.min(FAREWELL_STEP_MS, (options.farewellMs ?? FAREWELL_MS) / (leaving.length || 1));
      for (const [index, stream] of leaving.entries())
        scope.timeout(index * stepMs, () => stream.end(GOING_AWAY));
      await new Promise<void>((resolve) => setTimeout(resolve, leaving.length * stepMs));
      for (const stream of streams) stream.end(GOING_AWAY);
      await server.close();
      scope.close();
    },
  };
}

async function callerOf(deps: XdsServerDeps, call: ServerCall): Promise<Caller> {
  try {
    return await deps.authenticate((name) => call.header(name));
  } catch (error) {
    const reason = reasonOf(error);
    deps.log.warn('xDS client refused', { reason });
    if (error instanceof MeshError && error.code === 'GRPC_STATUS') throw error;
    throw statusError(GRPC_UNAUTHENTICATED, reason, error);
  }
}

function versionOf(pushes: number): string {
  return `${new Date().toISOString()}/${pushes}`;
}
