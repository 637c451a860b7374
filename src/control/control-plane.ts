// The control plane as one object: watches the API, computes the mesh, serves it over xDS, signs certificates.
//
//   informers ─► ambient index, policy index ─► resource sets ─► xDS server ─► node proxies
//        └────► pod view ─► certificate service ────────────────────┘ (same port)
//        └────► distributors ─► ConfigMaps (roots, revocation lists)
//        └────► writers, of one replica at a time ─► statuses, taints
//
// All state is in the API server: a restart rebuilds everything, and node proxies go on with what they have meanwhile.

import { Backoff } from '#base/backoff.ts';
import { type Clock, sleep, systemClock } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { VERSION } from '#base/version.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer, StartInformer } from '#k8s/informer.ts';
import type { ConfigMap } from '#k8s/objects.ts';
import { isAway } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { PLAIN_TEXT_TYPE } from '#telemetry/metrics.ts';
import { profileRoutes } from '#telemetry/profile-routes.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import { DEFAULT_DEBOUNCE, startXdsServer, type XdsServer } from '#xds/server.ts';
import { workloadsOf } from './ambient/workload-view.ts';
import { createCertificateService } from './ca/certificate-service.ts';
import {
  CRL_CONFIG_MAP,
  type DistributedFile,
  ROOT_CONFIG_MAP,
  startDistributor,
} from './ca/config-map-distributor.ts';
import { freshPodView } from './ca/pod-view.ts';
import { certificateMethods } from './ca/rpc.ts';
import { issueServing, keepServing } from './ca/serving.ts';
import { keepSigner, type SignerKeeper } from './ca/signer-keeper.ts';
import { cachedReviewer, createTokenReviewer } from './ca/token-review.ts';
import type { ControlPlaneOptions } from './config.ts';
import { debugPages } from './debug.ts';
import { debugAnswers, identifierOf } from './debug-xds.ts';
import { listenHttp, type Page, textPage } from './http.ts';
import { allSynced, notSynced, startInformers } from './informers.ts';
import { startWriters, type Writers } from './leader/writers.ts';
import { createMesh } from './mesh.ts';
import { createMetrics } from './metrics.ts';
import { startVipAllocator } from './vips/allocator.ts';
import { xdsAuthenticator } from './xds-auth.ts';

export interface ControlPlaneDeps {
  readonly client: KubeClient;
  readonly startInformer: StartInformer;
  readonly log: Logger;
  readonly clock?: Clock;
}

export interface ControlPlane {
  /** Resolves when everything has synced and the xDS port is open; rejects when that cannot come about. */
  readonly ready: Promise<void>;
  readonly ports: { readonly xds: number; readonly http: number; readonly monitoring: number };
  /** Ends every stream, so that clients reconnect elsewhere, and everything else. */
  close(): Promise<void>;
}

/** Well below the 30 s that node proxies give a call: they shall hear the reason. */
const REVIEW_LIMIT_MS = 10_000;

/**
 * How long a positive token review of an xDS stream is believed, and how long while the API server is away: who was let
 * in is told what was known, so that a proxy that restarts meanwhile comes to work. A certificate request always asks.
 */
const REVIEW_CACHE = { maxAgeMs: 60_000, maxAgeAwayMs: 3_600_000, maxEntries: 4096 } as const;

/** Readiness and metrics answer at once; the xDS port opens when the state is complete. */
export async function createControlPlane(
  deps: ControlPlaneDeps,
  options: ControlPlaneOptions,
): Promise<ControlPlane> {
  const { client, log, clock = systemClock } = deps;
  const scope = new Scope('control plane');
  const review = createTokenReviewer(
    { client },
    { audiences: options.tokenAudiences, limitMs: REVIEW_LIMIT_MS },
  );
  const informers = startInformers(
    deps.startInformer,
    { client, log: log.scoped('kubernetes') },
    options,
    scope.child('informers'),
  );
  const mesh = createMesh(informers, options, scope, log.scoped('mesh'));
  let server: XdsServer | undefined;
  let heldSigner: SignerKeeper | undefined;
  let writers: Writers | undefined;
  let failure: string | undefined;
  const metrics = createMetrics({
    clients: () => server?.clients().length ?? 0,
    addresses: () => mesh.addresses.size,
    policies: () => mesh.policies.size,
    pendingNames: () => pendingNames(server?.clients() ?? []),
    unsynced: () => notSynced(informers).length,
    signer: () => heldSigner?.current(),
    now: () => clock.now(),
  });
  const statusWrites = metrics.registry.counter(
    'culvert_control_status_writes',
    'Conditions written into statuses of objects, by result.',
  );
  metrics.registry.computed(
    'culvert_control_leases',
    'Leases held: what this replica writes on behalf of all.',
    () => writers?.leading().length ?? 0,
  );

  const readiness = (): Page => {
    if (scope.closed) return textPage(503, 'not ready: stopping\n');
    if (server !== undefined) return textPage(200, 'ready\n');
    const missing = notSynced(informers);
    const why =
      failure ?? (missing.length > 0 ? `waiting for ${missing.join(', ')}` : 'waiting for the xDS server');
    return textPage(503, `not ready: ${why}\n`);
  };
  const exposition = (): Page => ({
    status: 200,
    contentType: PLAIN_TEXT_TYPE,
    body: metrics.registry.expose(),
  });
  const pages = debugPages({
    ...mesh,
    informers,
    proxies: {
      clients: () => server?.clients() ?? [],
      resources: (clientId, typeUrl) => server?.resources(clientId, typeUrl) ?? [],
      disconnect: (clientId) => server?.disconnect(clientId),
    },
    options,
  });
  const httpDeps = {
    scope,
    log: log.scoped('http'),
    access: {
      review,
      namespaces: options.debugByNamespace
        ? [options.systemNamespace, ...options.debugNamespaces]
        : undefined,
    },
    debugPages: options.debugOverHttp ? pages : undefined,
    profiles: options.profiling ? profileRoutes() : undefined,
  };
  const ports = { xds: 0, http: 0, monitoring: 0 };

  async function start(): Promise<void> {
    const signer = await keepAuthority();
    failure = undefined;
    heldSigner = signer;
    startDistribution(signer);
    await allSynced(informers);
    mesh.index.flush();
    startAllocation();
    const started = await startXds(signer);
    if (scope.closed) return started.close();
    server = started;
    ports.xds = started.port;
    writers = startWriters(
      {
        client,
        clock,
        log,
        scope: scope.child('writers'),
        informers,
        mesh,
        onStatusWrite: (result) => statusWrites.add({ result }),
      },
      options,
    );
    log.info('ready', { port: started.port, addresses: mesh.addresses.size, policies: mesh.policies.size });
  }

  const keepAuthority = (): Promise<SignerKeeper> =>
    keepSigner(
      {
        client,
        startInformer: deps.startInformer,
        clock,
        random: Math.random,
        log: log.scoped('ca'),
        scope: scope.child('authority'),
        untilAnswered,
      },
      {
        namespace: options.systemNamespace,
        trustDomain: options.trustDomain,
        validDays: options.rootValidDays,
        renewBelowShare: options.rootRenewBelowShare,
        checkMs: options.rootCheckMs,
        pluggedInDir: options.pluggedInDir,
      },
    );

  /** The API server may start later than we do. A refusal or a damaged authority is final. */
  async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
    const backoff = new Backoff({ initialMs: 100, maxMs: 5000, jitter: 0.2 });
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (scope.closed || !isAway(error)) throw error;
        failure = reasonOf(error);
        log.warn('waiting for the API server', { error: failure });
      }
      await sleep(backoff.next());
    }
  }

  function startDistribution(signer: SignerKeeper): void {
    const start = (
      file: DistributedFile,
      configMaps: Informer<ConfigMap>,
      content: () => string | undefined,
    ) =>
      startDistributor(file, {
        client,
        namespaces: informers.namespaces,
        configMaps,
        content,
        log: log.scoped('ca'),
        scope: scope.child(`distribution of the ${file.what}`),
      });
    const roots = start(ROOT_CONFIG_MAP, informers.rootConfigMaps, () => signer.current().rootsPem);
    const lists = start(CRL_CONFIG_MAP, informers.crlConfigMaps, () => signer.current().crlPem);
    signer.onChange(() => {
      roots.refresh();
      lists.refresh();
    });
  }

  function startAllocation(): void {
    if (!options.allocatedVips) return;
    startVipAllocator(
      {
        client,
        serviceEntries: informers.serviceEntries,
        isOurs: mesh.isOurs,
        decidedBy: [informers.namespaces, informers.meshConfigs],
        schedule: setImmediate,
        log: log.scoped('addresses'),
        scope: scope.child('addresses'),
      },
      options.vipPools,
    );
  }

  async function startXds(signer: SignerKeeper): Promise<XdsServer> {
    const sign = createCertificateService(
      {
        signer: signer.current,
        review,
        pods: mesh.podView,
        freshPods: (namespaces) => freshPodView(client, namespaces),
        clock,
        log,
        onAnswer: metrics.answered,
      },
      {
        trustDomain: options.trustDomain,
        clusterId: options.clusterId,
        trustedAccounts: options.trustedNodeAccounts,
        defaultTtlSeconds: options.defaultWorkloadTtlSeconds,
        maxTtlSeconds: options.maxWorkloadTtlSeconds,
      },
    );
    const issue = () => issueServing(signer.current(), options);
    const xds = await startXdsServer(
      {
        sources: [mesh.addresses, workloadsOf(mesh.addresses), mesh.policies],
        authenticate: xdsAuthenticator(cachedReviewer({ review, clock, log }, REVIEW_CACHE), options),
        log: log.scoped('xds'),
        methods: certificateMethods(sign, log.scoped('ca')),
        answerDebug: debugAnswers({
          systemNamespace: options.systemNamespace,
          clients: () => server?.clients() ?? [],
          pages,
        }),
        observe: metrics.xds,
      },
      {
        listen: { host: options.listen.host, port: options.listen.xdsPort },
        tls: await issue(),
        debounce: { ...DEFAULT_DEBOUNCE, quietMs: options.debounceAfterMs, maxMs: options.debounceMaxMs },
        identityCheck: options.xdsIdentityCheck,
        newStreamsPerSecond: options.newStreamsPerSecond,
        farewellMs: options.farewellMs,
        controlPlane: identifierOf(options),
      },
    );
    const install = (certificate: Awaited<ReturnType<typeof issue>>): void => xds.setCertificate(certificate);
    keepServing({ scope: scope.child('serving certificate'), log, issue }, install);
    signer.onChange(() => {
      issue().then(install, (error: unknown) =>
        log.error('no serving certificate from the new authority', { error: reasonOf(error) }),
      );
    });
    return xds;
  }

  try {
    const { host, httpPort, monitoringPort } = options.listen;
    ports.http = await listenHttp({ ...httpDeps, pages: { '/ready': readiness } }, host, httpPort);
    ports.monitoring = await listenHttp(
      {
        ...httpDeps,
        pages: { '/metrics': exposition, '/ready': readiness, '/version': () => textPage(200, VERSION) },
      },
      host,
      monitoringPort,
    );
  } catch (error) {
    scope.close();
    throw error;
  }
  const ready = start();
  ready.catch((error: unknown) => {
    failure = reasonOf(error);
  });
  return {
    ready,
    ports,
    close: async () => {
      scope.close();
      await Promise.all([writers?.release(), server?.close()]);
    },
  };
}

function pendingNames(clients: readonly XdsClientInfo[]): number {
  let sum = 0;
  for (const { subscriptions } of clients) for (const { pending } of subscriptions) sum += pending;
  return sum;
}
