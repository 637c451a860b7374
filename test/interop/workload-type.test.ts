// The xDS type Workload beside a real istiod (PEER_CONTROL), on one cluster one after the other: the same questions, and
// the same answers word for word, but for versions and nonces.

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { Scope } from '#base/scope.ts';
import { createGrpcChannel } from '#grpc/client.ts';
import type { KubeClient } from '#k8s/client.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import { CONFIG_MAPS, SERVICES } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import {
  DELTA_DISCOVERY_PATH,
  type DeltaRequest,
  type DeltaResponse,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
} from '#proto/discovery.ts';
import { decodeAddress } from '#proto/workload.ts';
import { WORKLOAD_TYPE_URL } from '#proto/workload-part.ts';
import { silentLogger } from '#telemetry/log.ts';
import { ztunnelNode } from '#xds/client.ts';
import { Cluster, NAMESPACE } from '../../bench/convergence/cluster.ts';
import { startControl } from '../../bench/convergence/control-process.ts';

const peer = process.env.PEER_CONTROL;
const skip = peer === undefined && 'not run: PEER_CONTROL does not name one';
const PODS = 30;
/** `Cluster` puts every tenth pod on it, beginning with the fourth. */
const NODE = 'node-3';

/** As it is compared: what was sent, sorted by name, with its other names; and what is said to be gone. */
interface Answer {
  readonly sent: readonly (readonly [name: string, workload: unknown, aliases: readonly string[]])[];
  readonly removed: readonly string[];
}

function answerOf({ resources, removed }: DeltaResponse): Answer {
  const sent = resources.map(({ name, typeUrl, value, aliases = [] }) => {
    assert.equal(typeUrl, WORKLOAD_TYPE_URL);
    const address = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(value).finish();
    return [name, decodeAddress(address), [...aliases].sort()] as const;
  });
  return { sent: sent.sort(([a], [b]) => (a < b ? -1 : 1)), removed: [...removed].sort() };
}

async function untilThere<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 600; tries++) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('it did not come about');
}

async function answersOf(control: { readonly port: number }, cluster: Cluster, client: KubeClient) {
  const [token = ''] = await cluster.tokens(1);
  const rootPem = await untilThere(async () => {
    const { items } = await client.list(CONFIG_MAPS, { namespace: 'istio-system' });
    return items.find(({ metadata }) => metadata.name === 'istio-ca-root-cert')?.data?.['root-cert.pem'];
  });
  const scope = new Scope('client');
  const node = ztunnelNode({
    instanceIp: '172.30.0.1',
    podName: 'ztunnel-0',
    podNamespace: 'istio-system',
    nodeName: NODE,
    clusterId: 'Kubernetes',
    istioVersion: '1.31.0',
  });
  /** A stream whose every question is answered by one response. */
  const connect = () => {
    const stream = createGrpcChannel(
      { log: silentLogger, scope },
      {
        host: '127.0.0.1',
        port: control.port,
        serverName: 'istiod.istio-system.svc',
        rootPem: () => rootPem,
        token: () => token,
        metadata: { clusterid: 'Kubernetes' },
      },
    ).stream(DELTA_DISCOVERY_PATH);
    let waiting = Promise.withResolvers<DeltaResponse>();
    stream.onMessage((bytes) => {
      const response = decodeDeltaResponse(bytes);
      stream.send(encodeDeltaRequest(deltaRequest(WORKLOAD_TYPE_URL, { responseNonce: response.nonce })));
      waiting.resolve(response);
    });
    stream.onEnd(({ code, message }) => waiting.reject(new Error(`ended with ${code}: ${message}`)));
    return (fields: Partial<DeltaRequest>): Promise<DeltaResponse> => {
      waiting = Promise.withResolvers();
      stream.send(encodeDeltaRequest(deltaRequest(WORKLOAD_TYPE_URL, fields)));
      return waiting.promise;
    };
  };
  try {
    const all = await connect()({ node });
    const versions = new Map(all.resources.map(({ name, version }) => [name, version]));
    versions.set(`Kubernetes//Pod/${NAMESPACE}/pod-0`, 'another');
    versions.set(`Kubernetes//Pod/${NAMESPACE}/ghost`, '1');
    versions.set(`${NAMESPACE}/app-0.${NAMESPACE}.svc.cluster.local`, '1');
    const resumed = await connect()({ node, initialResourceVersions: versions });
    const ask = connect();
    const beginning = await ask({ node, subscribe: ['*'], unsubscribe: ['*'] });
    const service = await client.get(SERVICES, 'app-1', NAMESPACE);
    const asked = await ask({ subscribe: [`/${service.spec.clusterIP}`, '/10.9.9.9', '/10.64.0.0'] });
    return {
      all: answerOf(all),
      resumed: answerOf(resumed),
      beginning: answerOf(beginning),
      asked: answerOf(asked),
    };
  } finally {
    scope.close();
  }
}

test('a real istiod sends the same: all, the difference, a node’s own, and what is asked for', {
  skip,
}, async (t) => {
  const server = fork(join(import.meta.dirname, '../../bench/convergence/apiserver.ts'));
  t.after(() => server.disconnect());
  const { kubeconfig } = await new Promise<{ kubeconfig: string }>((resolve, reject) => {
    server.once('message', (message) => resolve(message as { kubeconfig: string }));
    server.once('exit', (code) => reject(new Error(`the API server ended with ${code}`)));
  });
  const client = createRestClient(kubeconfigEndpoint(readFileSync(kubeconfig, 'utf8')));
  t.after(() => client.close());
  const cluster = new Cluster(client);
  await cluster.prepare();
  await cluster.fill(PODS);
  const answers = [];
  for (const program of [undefined, peer]) {
    const control = await startControl(kubeconfig, program);
    try {
      answers.push(await answersOf(control, cluster, client));
    } finally {
      control.stop();
    }
  }
  const [ours, theirs] = answers;
  assert.deepEqual(ours, theirs);
  assert.ok(ours !== undefined && ours.all.sent.length >= PODS);
  assert.deepEqual(
    ours.resumed.sent.map(([name]) => name),
    [`Kubernetes//Pod/${NAMESPACE}/pod-0`],
  );
  assert.deepEqual(ours.resumed.removed, [`Kubernetes//Pod/${NAMESPACE}/ghost`]);
  assert.equal(ours.beginning.sent.length, PODS / 10);
  assert.deepEqual(ours.asked.removed, ['/10.9.9.9']);
});
