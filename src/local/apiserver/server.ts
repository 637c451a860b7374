// The embedded Kubernetes API server: puts store, kinds, keys and HTTP together. It starts no controllers and runs
// no containers; those are its clients, over the same REST interface as everybody's.

import { constants } from 'node:crypto';
import { createServer as createPlainServer, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { parse as parseYaml } from 'yaml';
import { type Clock, type Random, systemClock } from '#base/clock.ts';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { ADDRESSES, API_PORT } from '#local/machine/plan.ts';
import { formatHostPort } from '#net/host-port.ts';
import type { Logger } from '#telemetry/log.ts';
import type { PodStreams } from '../streams/pod-streams.ts';
import { bootstrap } from './bootstrap.ts';
import { type HttpDeps, handle, handleUpgrade, wantsUpgrade } from './http.ts';
import { openInside } from './inside.ts';
import type { ServiceFamilies } from './kind.ts';
import type { PodLogs } from './logs.ts';
import { isObject, type JsonObject } from './object.ts';
import { OpenApi } from './openapi.ts';
import { type ClientCredentials, issueClient, kubeconfigText, openPki, type Pki } from './pki.ts';
import { AccessControl } from './rbac/access-control.ts';
import { guardWrite } from './rbac/write-guard.ts';
import { Registry } from './registry.ts';
import { Store } from './store.ts';

export interface ApiServerDeps {
  readonly log: Logger;
  /** Where container logs come from; without it `…/log` answers 501. */
  readonly podLogs?: PodLogs;
  /** Who runs exec, attach and port-forward; without it they answer 501. */
  readonly podStreams?: PodStreams;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface ApiServerOptions {
  /** Holds the database and the keys; made when absent. */
  readonly stateDir: string;
  /** Names and addresses of the server certificate, and the only `Host` names served. */
  readonly dnsNames?: readonly string[];
  readonly ips?: readonly string[];
  /** JSON or YAML texts of CustomResourceDefinitions to have from the start (deploy/crds). */
  readonly crds?: readonly string[];
  /** Where the `kubernetes` Service leads: the address pods reach the server at. 172.31.0.1:16443 unless told otherwise. */
  readonly advertise?: { readonly address: string; readonly port: number };
  readonly serviceFamilies?: ServiceFamilies;
  readonly limits?: Partial<ApiLimits>;
}

/** What a client may hold on to without giving anything; each has a default that no well-behaved client meets. */
export interface ApiLimits {
  /** For the TLS handshake, and then for the head of a request. */
  readonly headMs: number;
  /** For a whole request, its body included; answers may last. */
  readonly requestMs: number;
  /** How often the two are looked at. */
  readonly checkMs: number;
  readonly connections: number;
}

const DEFAULT_LIMITS: ApiLimits = { headMs: 10_000, requestMs: 60_000, checkMs: 5_000, connections: 4_000 };
/** A watcher that vanished without a word is noticed by its silence. */
const TCP_KEEP_ALIVE_MS = 30_000;
/** Between requests. */
const KEEP_ALIVE_MS = 120_000;
/** How long a client that is hung up on may take to read why. */
const LAST_WORDS_MS = 1_000;

export type ListenTarget = { readonly fd: number } | { readonly host: string; readonly port: number };

export interface ApiServer {
  /** May be called several times; resolves with the address listened on (port 0 chooses a free one). */
  listen(target: ListenTarget): Promise<{ readonly address: string; readonly port: number }>;
  /** PEM of the authority that signed the server's certificate (kube-root-ca.crt). */
  readonly caPem: string;
  /** Credentials of kubernetes-admin (O=system:masters). */
  readonly adminCertPem: string;
  readonly adminKeyPem: string;
  /** A new certificate for a component or a person, valid for a year. */
  credentials(user: string, groups?: readonly string[]): Promise<ClientCredentials>;
  /** A connection in memory for a part of this process, which has the rights of the user it names. */
  connect(user: string, groups?: readonly string[]): Duplex;
  /** Text of a kubeconfig with everything embedded, e.g. for `https://127.0.0.1:16443`. */
  kubeconfig(serverUrl: string): string;
  /** Ends every watch, closes every listener and connection, then the database. */
  close(): Promise<void>;
}

const DEFAULT_DNS_NAMES = [
  'localhost',
  'kubernetes',
  'kubernetes.default',
  'kubernetes.default.svc',
  'kubernetes.default.svc.cluster.local',
];
const DEFAULT_IPS = ['127.0.0.1', ADDRESSES.IPv4.apiService, ADDRESSES.IPv4.machine];
const DEFAULT_ADVERTISE = { address: ADDRESSES.IPv4.machine, port: API_PORT };
const COMPACT_EVERY_MS = 60_000;

/** Throws MeshError LOCAL_MACHINE_FAILED when the state directory cannot be used. */
export async function createApiServer(deps: ApiServerDeps, options: ApiServerOptions): Promise<ApiServer> {
  const clock = deps.clock ?? systemClock;
  const random = deps.random ?? Math.random;
  const dnsNames = options.dnsNames ?? DEFAULT_DNS_NAMES;
  const ips = options.ips ?? DEFAULT_IPS;
  const advertise = options.advertise ?? DEFAULT_ADVERTISE;
  const crds = (options.crds ?? []).flatMap(parseCrds);
  const store = new Store({ path: join(options.stateDir, 'cluster.db'), clock });
  try {
    const pki = await openPki({ clock }, { folder: join(options.stateDir, 'pki'), dnsNames, ips });
    const registry = new Registry(store);
    const control = new AccessControl({ store, log: deps.log });
    const families = options.serviceFamilies;
    const objects = {
      store,
      registry,
      clock,
      random,
      ...(families === undefined ? {} : { serviceFamilies: families }),
    };
    bootstrap(objects, { advertise, crds });
    const http: HttpDeps = {
      ...objects,
      log: deps.log,
      podLogs: deps.podLogs,
      podStreams: deps.podStreams,
      openApi: new OpenApi(registry),
      control,
      guard: (write) => guardWrite(control, write),
      tokens: { store, clock, key: pki.tokenKey, publicKey: pki.tokenPublicKey },
      hosts: new Set([...dnsNames, ...ips].map((name) => name.toLowerCase())),
      serverAddress: formatHostPort(advertise.address, advertise.port),
    };
    return running(http, pki, { ...DEFAULT_LIMITS, ...options.limits });
  } catch (error) {
    store.close();
    throw MeshError.from(
      error,
      'LOCAL_MACHINE_FAILED',
      `the API server cannot start from ${options.stateDir}`,
    );
  }
}

function running(http: HttpDeps, pki: Pki, limits: ApiLimits): ApiServer {
  const servers = new Set<Server>();
  /** Connections that left HTTP: the server does not know them any more. */
  const upgraded = new Set<Socket>();
  /** All of them: the HTTP layer does not know those whose handshake is not over. */
  const sockets = new Set<Socket>();
  const inside = openInside(createPlainServer({ keepAliveTimeout: 0 }, requestListener(http)));
  const compaction = setInterval(() => {
    try {
      http.store.compact();
    } catch (error) {
      // A full disk: the state stays right, only longer.
      http.log.warn('the history of the API server could not be shortened', { error: reasonOf(error) });
    }
  }, COMPACT_EVERY_MS);
  compaction.unref();
  return {
    caPem: pki.caPem,
    adminCertPem: pki.adminCertPem,
    adminKeyPem: pki.adminKeyPem,
    credentials: (user, groups = []) => issueClient(pki.authority, user, groups),
    connect: (user, groups = []) => inside.connect({ name: user, groups }),
    kubeconfig: (serverUrl) => kubeconfigText(pki, serverUrl),
    listen: async (target) => {
      const server = httpsServer(http, pki, limits, upgraded);
      servers.add(server);
      server.on('connection', (socket: Socket) => {
        sockets.add(socket);
        socket.once('close', () => sockets.delete(socket));
      });
      try {
        return await listening(server, target);
      } catch (error) {
        servers.delete(server);
        throw error;
      }
    },
    close: async () => {
      clearInterval(compaction);
      inside.close();
      await Promise.all(
        [...servers].map(
          (server) =>
            new Promise<void>((resolve) => {
              server.close(() => resolve());
              server.closeAllConnections();
              for (const socket of upgraded) socket.destroy();
              for (const socket of sockets) socket.destroy();
            }),
        ),
      );
      http.store.close();
    },
  };
}

function httpsServer(http: HttpDeps, pki: Pki, limits: ApiLimits, upgraded: Set<Socket>): Server {
  const server = createServer(
    {
      cert: pki.serverCertPem,
      key: pki.serverKeyPem,
      ca: [pki.caPem],
      ALPNProtocols: ['http/1.1'],
      minVersion: 'TLSv1.2',
      // A certificate is asked for and judged per request: tokens are the other way in.
      requestCert: true,
      rejectUnauthorized: false,
      // Every connection proves itself: nothing is resumed.
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: limits.headMs,
      headersTimeout: limits.headMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: limits.checkMs,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      shouldUpgradeCallback: wantsUpgrade,
    },
    requestListener(http),
  );
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    upgraded.add(socket);
    socket.on('close', () => upgraded.delete(socket));
    socket.on('error', (error) => http.log.debug('an upgraded connection broke', { error: reasonOf(error) }));
    handleUpgrade(http, request, socket, head).catch((error: unknown) => {
      http.log.error('an upgraded connection could not be served', { error: reasonOf(error) });
      socket.destroy();
    });
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.maxConnections = limits.connections;
  server.on('tlsClientError', (error, socket) => {
    http.log.debug('a TLS client was refused', { error: reasonOf(error) });
    socket.destroy();
  });
  server.on('clientError', (error, socket) => {
    http.log.debug('a client sent no valid HTTP', { error: reasonOf(error) });
    if (socket.writable)
      socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    // Not only ended: a client that keeps its half open, or reads nothing, would keep the connection.
    setTimeout(() => socket.destroy(), LAST_WORDS_MS).unref();
  });
  return server;
}

function requestListener(http: HttpDeps): RequestListener {
  return (request, response) => {
    response.on('error', () => request.destroy());
    handle(http, request, response).catch((error: unknown) => {
      http.log.error('an API answer could not be written', { error: reasonOf(error) });
      response.destroy();
    });
  };
}

function listening(server: Server, target: ListenTarget): Promise<{ address: string; port: number }> {
  return new Promise((resolve, reject) => {
    const where = 'fd' in target ? `descriptor ${target.fd}` : `${target.host}:${target.port}`;
    server.once('error', (error) => {
      const taken = errnoOf(error) === 'EADDRINUSE';
      reject(
        new MeshError(
          taken ? 'PORT_IN_USE' : 'LOCAL_MACHINE_FAILED',
          `the API server cannot listen on ${where}: ${taken ? 'the port is in use; stop the other program or choose another port (--api-port)' : reasonOf(error)}`,
          { cause: error },
        ),
      );
    });
    server.listen(target, () => {
      const { address, port } = server.address() as AddressInfo;
      resolve({ address, port });
    });
  });
}

/** JSON is read as JSON: it costs a hundredth of YAML's time at start. */
function parseCrds(text: string): JsonObject[] {
  const documents = text.trimStart().startsWith('{')
    ? [JSON.parse(text) as unknown]
    : text.split(/^---\s*$/m).map((document) => parseYaml(document) as unknown);
  return documents.filter(isObject);
}
