// Our port-forward client against our server's side of the protocol, over real TLS, to a real HTTP server.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { podFetcher } from '#k8s/pod-http.ts';
import { openPortForward } from '#k8s/port-forward.ts';
import type { ApiEndpoint } from '#k8s/rest-transport.ts';
import { type ForwardTarget, negotiatePortForward } from '#local/streams/upgrade.ts';
import { silentLogger } from '#telemetry/log.ts';
import { serveHttps } from '../lib/https-server.ts';

/** An API server that serves nothing but port-forward; `dial` connects to ports of this machine. */
async function apiServer(t: TestContext, dial: ForwardTarget['dial']): Promise<ApiEndpoint> {
  const { server, endpoint } = await serveHttps(t, (_request, response) => {
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end(
      JSON.stringify({ kind: 'Status', code: 404, reason: 'NotFound', message: 'pods "x" not found' }),
    );
  });
  server.on('upgrade', (request, socket, head: Buffer) => {
    assert.equal(request.headers.authorization, 'Bearer secret');
    assert.equal(request.url, '/api/v1/namespaces/istio-system/pods/ztunnel-a/portforward');
    const agreed = negotiatePortForward({ log: silentLogger }, request);
    assert.equal(agreed.kind, 'agreed');
    if (agreed.kind === 'agreed')
      agreed.start(
        { request, socket, head },
        { name: 'pod ztunnel-a', gone: new AbortController().signal, dial },
      );
  });
  return { ...endpoint, token: () => 'secret' };
}

async function podServer(t: TestContext): Promise<number> {
  const server = createHttpServer((request, response) => {
    if (request.url === '/large') response.end('x'.repeat(5_000_000));
    else if (request.url === '/bad') response.writeHead(400).end('no such level\n');
    else response.end(`${request.method} ${request.url} ${request.headers.host}\n`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const dialHere: ForwardTarget['dial'] = async (port) => {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
};
const pod = { namespace: 'istio-system', pod: 'ztunnel-a' };

test('a request to a port of a pod, and a large answer', async (t) => {
  const fetchFromPod = podFetcher(await apiServer(t, dialHere));
  const port = await podServer(t);
  assert.equal(
    await fetchFromPod({ ...pod, port, path: '/logging?level=debug', method: 'POST' }),
    `POST /logging?level=debug localhost:${port}\n`,
  );
  assert.equal((await fetchFromPod({ ...pod, port, path: '/large' })).length, 5_000_000);
});

test('an answer that is an error carries its text', async (t) => {
  const fetchFromPod = podFetcher(await apiServer(t, dialHere));
  const port = await podServer(t);
  await assert.rejects(
    fetchFromPod({ ...pod, port, path: '/bad' }),
    (error: unknown) => error instanceof MeshError && /answered 400: no such level/.test(error.message),
  );
});

test('a port where nobody listens: the sentence of the node', async (t) => {
  const refuse: ForwardTarget['dial'] = () => Promise.reject(new Error('connection refused in the pod'));
  const fetchFromPod = podFetcher(await apiServer(t, refuse));
  await assert.rejects(fetchFromPod({ ...pod, port: 15000, path: '/' }), /connection refused in the pod/);
});

test('bytes in both directions, more than any window', async (t) => {
  const echo = (await import('node:net')).createServer({ allowHalfOpen: true }, (socket) =>
    socket.pipe(socket),
  );
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  t.after(() => echo.close());
  const endpoint = await apiServer(t, dialHere);
  const stream = await openPortForward(endpoint, { ...pod, port: (echo.address() as AddressInfo).port });
  const sent = 'abcdefgh'.repeat(200_000);
  const received = text(stream);
  stream.end(sent);
  assert.equal(await received, sent);
});

test("a refusal before the upgrade is the server's own", async (t) => {
  // Without a listener for upgrades the request is answered like any other.
  const { endpoint } = await serveHttps(t, (_request, response) => {
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ code: 404, reason: 'NotFound', message: 'pods "ztunnel-a" not found' }));
  });
  await assert.rejects(openPortForward(endpoint, { ...pod, port: 1 }), /pods "ztunnel-a" not found/);
});
