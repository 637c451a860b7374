import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PeerAuthentication, Pod } from '#k8s/objects.ts';
import { openNetns } from '#linux/netns.ts';
import { type IpAddress, ip } from '#net/ip.ts';
import { type Logger, silentLogger } from '#telemetry/log.ts';
import { createOlderWatch } from './older-watch.ts';
import { PodTable } from './pod-table.ts';
import type { OlderConnection } from './rules/older-connections.ts';

const connection = (direction: 'inbound' | 'outbound', localPort: number): OlderConnection => ({
  direction,
  local: { ip: ip('10.0.0.1'), port: localPort },
  remote: { ip: ip('10.0.0.2'), port: 5000 },
  socket: {} as never,
});
const ALL = [connection('inbound', 8080), connection('inbound', 9090), connection('outbound', 40_000)];
const STRICT: PeerAuthentication = {
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { name: 'web', namespace: 'shop' },
  spec: {
    selector: { matchLabels: { app: 'web' } },
    mtls: { mode: 'STRICT' },
    portLevelMtls: { 9090: { mode: 'PERMISSIVE' } },
  },
};

/** The local ports of what a review closes. */
function closedBy(
  world: {
    annotations?: Record<string, string>;
    policies?: PeerAuthentication[];
    closeByDefault?: boolean;
    rounds?: number;
    /** Is told how many were open, each time what is lost is to be forgotten. */
    onForgetLost?: (open: number, podIps: readonly IpAddress[]) => void;
  },
  log: Logger = silentLogger,
  fails?: 'list' | 'close',
): { closed: number[]; left: number } {
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web',
      namespace: 'shop',
      uid: 'u',
      labels: { app: 'web' },
      annotations: world.annotations ?? {},
    },
    spec: { containers: [] },
  };
  const table = new PodTable();
  const entry = table.ensure('u', { name: 'web', namespace: 'shop', serviceAccount: 'web' }, 'enabled');
  table.setNetns(entry, openNetns('/proc/self/ns/net'));
  entry.stage = 'done';
  entry.ips = [ip('10.0.0.1')];
  let open: readonly OlderConnection[] = ALL;
  const closed: number[] = [];
  const watch = createOlderWatch(
    {
      calls: {
        forgetFormer: () => 0,
        forgetEnded: () => 0,
        forgetLost(_netns, podIps) {
          world.onForgetLost?.(open.length, podIps);
          return 0;
        },
        keep: () => 0,
        served: () => 0,
        cut: () => 0,
        list() {
          if (fails === 'list') throw new Error('too many open files');
          return [...open];
        },
        close(_netns, connections) {
          if (fails === 'close') throw new Error('operation not supported');
          closed.push(...connections.map(({ local }) => local.port));
          open = open.filter((candidate) => !connections.includes(candidate));
        },
      },
      table,
      pod: () => pod,
      peerAuthentications: { all: () => (world.policies ?? [])[Symbol.iterator]() } as never,
      log,
    },
    {
      rootNamespace: 'istio-system',
      closeByDefault: world.closeByDefault ?? false,
      ipv6: true,
      dnsCapture: false,
    },
  );
  for (let round = 0; round < (world.rounds ?? 1); round++) watch.reviewAll();
  const left = watch.list()[0]?.connections.length ?? 0;
  table.close();
  return { closed, left };
}

test('older connections go on where nothing forbids it', () => {
  assert.deepEqual(closedBy({}), { closed: [], left: 3 });
});

test('where mutual TLS is required, inbound ones end; what the pod itself opened goes on', () => {
  assert.deepEqual(closedBy({ policies: [STRICT] }), { closed: [8080], left: 2 });
});

test('a pod, or the node, may want them all closed; the pod has the last word', () => {
  const annotations = { 'culvert.local/older-connections': 'close' };
  assert.deepEqual(closedBy({ annotations }), { closed: [8080, 9090, 40_000], left: 0 });
  assert.deepEqual(closedBy({ closeByDefault: true }), { closed: [8080, 9090, 40_000], left: 0 });
  assert.deepEqual(
    closedBy({ closeByDefault: true, annotations: { 'culvert.local/older-connections': 'keep' } }),
    { closed: [], left: 3 },
  );
});

test('what the kernel still remembers of lost ones is forgotten up to and with the end of the last', () => {
  const looks: unknown[] = [];
  const onForgetLost = (open: number, podIps: readonly IpAddress[]) => looks.push([open, ...podIps]);
  closedBy({ closeByDefault: true, rounds: 3, onForgetLost });
  assert.deepEqual(looks, [
    [3, '10.0.0.1'],
    [0, '10.0.0.1'],
  ]);
});

test('inbound traffic that is not captured at all is not "older"', () => {
  const annotations = { 'ambient.istio.io/bypass-inbound-capture': 'true' };
  assert.deepEqual(closedBy({ annotations, policies: [STRICT] }), { closed: [], left: 1 });
});

test('a connection that cannot be closed is told of', () => {
  const errors: unknown[] = [];
  const log: Logger = { ...silentLogger, error: (text, fields) => errors.push([text, fields]) };
  assert.equal(closedBy({ policies: [STRICT] }, log, 'close').left, 3);
  assert.equal(errors.length, 1);
  assert.match(JSON.stringify(errors[0]), /could not be closed and go on in plaintext/);
});

test('a pod whose connections cannot be read is told of and does not end the review', () => {
  const errors: unknown[] = [];
  const log: Logger = { ...silentLogger, error: (text, fields) => errors.push([text, fields]) };
  assert.deepEqual(closedBy({ policies: [STRICT] }, log, 'list'), { closed: [], left: 0 });
  assert.match(JSON.stringify(errors[0]), /cannot be read.*shop.*web.*too many open files/);
});
