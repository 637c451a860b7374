// What the proxy's picture of the mesh costs: bytes of heap per workload, and microseconds per changed workload, both as
// the xDS client has them (wire bytes in, store out). Run: node --expose-gc bench/store.ts [WORKLOADS]

import { setTimeout as delay } from 'node:timers/promises';
import { Scope } from '#base/scope.ts';
import type { Service } from '#model/service.ts';
import { createStore, type Store } from '#model/store.ts';
import { serviceKey, type Workload, type WorkloadUid } from '#model/workload.ts';
import { ipFromBytes } from '#net/ip.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { encodeDeltaResponse } from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { startXdsClient } from '#xds/client.ts';
import type { StreamHandlers } from '#xds/transport.ts';

const COUNT = Number(process.argv[2] ?? 10_000);
const PER_SERVICE = 20;
const PER_NAMESPACE = 100;
const NODES = 200;
const UPDATES = 2_000;

/** Like a deployment's pod: two services, a locality, a selector policy for every tenth. */
function workload(index: number, revision: number): Workload {
  const app = `app-${Math.floor(index / PER_SERVICE)}`;
  const namespace = `team-${Math.floor(index / PER_NAMESPACE)}`;
  const name = `${app}-7d9c5b6f4-${(index * 2_654_435_761).toString(36).slice(0, 5)}`;
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}-${index}` as WorkloadUid,
    name: `${name}-${index}`,
    namespace,
    ips: [ipFromBytes(Uint8Array.of(10, index >> 16, (index >> 8) & 255, index & 255))],
    network: '',
    protocol: 'HBONE',
    networkMode: 'Standard',
    trustDomain: 'cluster.local',
    serviceAccount: app,
    waypoint: undefined,
    networkGateway: undefined,
    node: `node-${index % NODES}.example.internal`,
    hostname: '',
    workloadName: app,
    workloadType: 'deployment',
    canonicalName: app,
    canonicalRevision: `v${revision}`,
    clusterId: 'Kubernetes',
    nativeTunnel: false,
    applicationTunnel: undefined,
    authorizationPolicies: index % 10 === 0 ? [`${namespace}/only-frontend`] : [],
    status: 'Healthy',
    locality: { region: 'eu-central-1', zone: `eu-central-1${'abc'[index % 3]}`, subzone: '' },
    capacity: 1,
    services: new Map([
      [
        serviceKey(namespace, `${app}.${namespace}.svc.cluster.local`),
        new Map([
          [80, 8080],
          [443, 8443],
        ]),
      ],
      [serviceKey(namespace, `${app}-headless.${namespace}.svc.cluster.local`), new Map([[80, 8080]])],
    ]),
  };
}

function service(index: number): Service {
  const name = `app-${index}`;
  const namespace = `team-${Math.floor((index * PER_SERVICE) / PER_NAMESPACE)}`;
  return {
    name,
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    vips: [{ network: '', ip: ipFromBytes(Uint8Array.of(172, 20, index >> 8, index & 255)) }],
    cidrVips: [],
    ports: new Map([
      [80, 8080],
      [443, 8443],
    ]),
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancer: undefined,
    ipFamilies: 'IPv4',
    canonical: true,
    visibility: 'Public',
  };
}

/** As istiod pushes it: one response per call, names and content hashes as versions. */
function response(
  indices: readonly number[],
  revision: number,
  services: readonly number[] = [],
): Uint8Array {
  const workloads = indices.map((index) => {
    const one = workload(index, revision);
    return { name: one.uid as string, value: encodeAddress({ kind: 'workload', workload: one }) };
  });
  const others = services.map((index) => {
    const one = service(index);
    return {
      name: `${one.namespace}/${one.hostname}`,
      value: encodeAddress({ kind: 'service', service: one }),
    };
  });
  return encodeDeltaResponse({
    systemVersionInfo: '',
    typeUrl: ADDRESS_TYPE_URL,
    nonce: String(revision),
    removed: [],
    resources: [...others, ...workloads].map((one, index) => ({
      ...one,
      version: `${revision.toString(16).padStart(4, '0')}${index.toString(16).padStart(12, '0')}`,
      typeUrl: ADDRESS_TYPE_URL,
    })),
  });
}

async function heapBytes(): Promise<number> {
  for (let round = 0; round < 4; round++) {
    globalThis.gc?.();
    await delay(20);
  }
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}

function connect(): { readonly store: Store; readonly handlers: StreamHandlers; readonly close: () => void } {
  const store = createStore({ localNode: 'node-0.example.internal' });
  const scope = new Scope('bench');
  const opened: StreamHandlers[] = [];
  startXdsClient(
    {
      store,
      scope,
      log: silentLogger,
      open: (handlers) => {
        opened.push(handlers);
        return { send: () => {}, close: () => {} };
      },
    },
    { node: { id: 'bench', metadata: {} } },
  );
  opened[0]!.message(
    encodeDeltaResponse({
      systemVersionInfo: '',
      typeUrl: AUTHORIZATION_TYPE_URL,
      nonce: '',
      removed: [],
      resources: [],
    }),
  );
  return { store, handlers: opened[0]!, close: () => scope.close() };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** One changed workload per response, each another one. */
function update(handlers: StreamHandlers, revision: number): number[] {
  const step = Math.max(1, Math.floor(COUNT / UPDATES));
  const messages = Array.from({ length: Math.min(COUNT, UPDATES) }, (_, index) =>
    response([index * step], revision),
  );
  return messages.map((bytes) => {
    const start = performance.now();
    handlers.message(bytes);
    return (performance.now() - start) * 1000;
  });
}

if (globalThis.gc === undefined) {
  process.stderr.write('run with node --expose-gc: without it the figures are garbage\n');
  process.exit(1);
}
const all = Array.from({ length: COUNT }, (_, index) => index);
const services = Array.from({ length: Math.ceil(COUNT / PER_SERVICE) }, (_, index) => index);
// Code and caches are warm before anything is measured.
const warm = connect();
warm.handlers.message(response(all.slice(0, 500), 0, services.slice(0, 25)));
warm.close();

const { store, handlers } = connect();
handlers.message(response([], 1, services));
const before = await heapBytes();
let bytes: Uint8Array | undefined = response(all, 2);
const start = performance.now();
handlers.message(bytes);
const loadMs = performance.now() - start;
bytes = undefined;
const after = await heapBytes();
const costs = update(handlers, 3);
const updated = await heapBytes();
const held = [...store.workloads()].length;
const line = (name: string, value: string): void => void process.stdout.write(`${name.padEnd(44)}${value}\n`);
line('workloads', String(held));
line('bytes per workload', ((after - before) / COUNT).toFixed(0));
line('bytes per workload, a part updated', ((updated - before) / COUNT).toFixed(0));
line('first response, µs per workload', ((loadMs * 1000) / COUNT).toFixed(1));
line('one changed workload, median µs', median(costs).toFixed(1));
