// M node proxies, as far as a control plane can tell: each has a connection and a token of its own, subscribes to
// everything, acknowledges each response and comes back as ztunnel does. Times are stamped here, when an ACK is written.

import { Scope } from '#base/scope.ts';
import { createGrpcChannel } from '#grpc/client.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { decodeDeltaResponse, deltaRequest, encodeDeltaRequest } from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { ztunnelNode } from '#xds/client.ts';
import { xdsOverGrpc } from '#xds/grpc-transport.ts';
import { nextDelay, RECONNECT_INITIAL_MS } from '#xds/reconnect.ts';
import type { OpenXdsStream, XdsStream } from '#xds/transport.ts';
import { type Connect, type FromClients, nowMs, type ToClients, type Watch } from './messages.ts';

const TYPES = [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL];
const scope = new Scope('clients');
const tell = (message: FromClients): void => {
  process.send!(message);
};

interface Client {
  readonly held: ReadonlyMap<string, Map<string, string>>;
  readonly heard: Set<string>;
}
const clients: Client[] = [];
let watch: Watch | undefined;
/** Watched name → clients that have not acknowledged it. */
let waiting = new Map<string, Set<Client>>();
let bytes = 0;
let responses = 0;
let resources = 0;

const keyOf = (name: string, isRemoval: boolean): string => (isRemoval ? `-${name}` : `+${name}`);

function noticed(client: Client, name: string, isRemoval: boolean): void {
  const key = keyOf(name, isRemoval);
  const left = waiting.get(key);
  if (left === undefined || watch === undefined || !left.delete(client) || left.size > 0) return;
  waiting.delete(key);
  tell({ kind: 'seen', id: watch.id, name: key, atMs: nowMs() });
}

function startClient(index: number, { host, port, serverName, rootPem, tokens }: Connect): void {
  const client: Client = {
    held: new Map(TYPES.map((typeUrl) => [typeUrl, new Map<string, string>()])),
    heard: new Set(),
  };
  clients.push(client);
  const token = tokens[index] ?? '';
  const channel = createGrpcChannel(
    { log: silentLogger, scope },
    {
      host,
      port,
      serverName,
      rootPem: () => rootPem,
      token: () => token,
      metadata: { clusterid: 'Kubernetes' },
    },
  );
  const open: OpenXdsStream = xdsOverGrpc(channel);
  const node = ztunnelNode({
    instanceIp: `172.30.${index >> 8}.${index & 255}`,
    podName: `ztunnel-${index}`,
    podNamespace: 'istio-system',
    nodeName: `node-${index}`,
    clusterId: 'Kubernetes',
    istioVersion: '1.31.0',
  });
  let backoffMs = RECONNECT_INITIAL_MS;
  const connect = (): void => {
    client.heard.clear();
    const stream: XdsStream = open({
      message: (message) => onMessage(client, stream, message),
      end: (end) => {
        const delay = nextDelay(end, backoffMs);
        backoffMs = delay.backoffMs;
        scope.timeout(delay.sleepMs, connect);
      },
    });
    for (const typeUrl of TYPES) {
      const initialResourceVersions = client.held.get(typeUrl)!;
      stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { node, initialResourceVersions })));
    }
  };
  const onMessage = (of: Client, stream: XdsStream, message: Uint8Array): void => {
    backoffMs = RECONNECT_INITIAL_MS;
    const response = decodeDeltaResponse(message);
    const { typeUrl, nonce } = response;
    const held = of.held.get(typeUrl)!;
    stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { responseNonce: nonce })));
    bytes += message.length;
    responses++;
    resources += response.resources.length + response.removed.length;
    for (const { name, version } of response.resources) {
      held.set(name, version);
      noticed(of, name, false);
    }
    for (const name of response.removed) {
      held.delete(name);
      noticed(of, name, true);
    }
    of.heard.add(typeUrl);
    if (clients.every(({ heard }) => heard.size === TYPES.length)) settled();
  };
  connect();
}

let isSettled = false;
function settled(): void {
  if (isSettled) return;
  isSettled = true;
  tell({ kind: 'settled', atMs: nowMs() });
}

const receive = (message: ToClients): void => {
  switch (message.kind) {
    case 'connect':
      for (const index of message.tokens.keys()) startClient(index, message);
      return;
    case 'watch': {
      watch = message;
      const names = [
        ...message.sets.map((name) => keyOf(name, false)),
        ...message.removals.map((name) => keyOf(name, true)),
      ];
      waiting = new Map(names.map((name) => [name, new Set(clients)]));
      tell({ kind: 'watching' });
      return;
    }
    case 'reconnects':
      // The server is about to go: only streams that begin from now on count.
      for (const { heard } of clients) heard.clear();
      isSettled = false;
      return;
    case 'totals': {
      const sizes = clients.map(({ held }) => [...held.values()].reduce((sum, { size }) => sum + size, 0));
      tell({ kind: 'totals', bytes, responses, resources, held: Math.min(...sizes) });
    }
  }
};
process.on('message', receive);
process.on('disconnect', () => process.exit());
