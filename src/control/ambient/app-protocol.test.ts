// Which application protocol a port speaks: the wire carries it, the golden cases show it; here the odd names.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServicePort } from '#k8s/objects.ts';
import { kubeAppProtocol, protocolNamed } from './app-protocol.ts';

const TABLE: readonly [port: Omit<ServicePort, 'port'> & { port?: number }, protocol: string][] = [
  [{ name: 'HTTP-web' }, 'HTTP11'],
  [{ name: 'grpc-web' }, 'UNKNOWN'],
  [{ name: 'grpc-web-x' }, 'UNKNOWN'],
  [{ name: 'grpc-x' }, 'GRPC'],
  [{}, 'UNKNOWN'],
  [{ port: 3306 }, 'TCP'],
  [{ port: 3306, name: 'http' }, 'HTTP11'],
  [{ name: 'http', protocol: 'UDP' }, 'UNKNOWN'],
  [{ name: 'tcp', appProtocol: 'https' }, 'TLS'],
  [{ name: 'tcp', appProtocol: 'kubernetes.io/ws' }, 'HTTP11'],
  [{ name: 'tcp', appProtocol: 'kubernetes.io/wss' }, 'TLS'],
  [{ name: 'constructor' }, 'UNKNOWN'],
];
for (const [port, protocol] of TABLE)
  test(`${JSON.stringify(port)} speaks ${protocol}`, () => {
    assert.equal(kubeAppProtocol({ port: 80, ...port }), protocol);
  });

test('the protocol of a ServiceEntry is read in any case of letters', () => {
  assert.equal(protocolNamed('Https'), 'TLS');
  assert.equal(protocolNamed('MONGO'), 'UNKNOWN');
  assert.equal(protocolNamed(undefined), 'UNKNOWN');
});
