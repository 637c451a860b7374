import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { inClusterEndpoint } from './config.ts';

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof MeshError && error.code === 'CONFIG_INVALID' && pattern.test(error.message);

const readFrom = (files: Record<string, string>) => (path: string) => {
  const text = files[path];
  if (text === undefined) throw new Error(`ENOENT: no such file, open '${path}'`);
  return text;
};

const dir = '/var/run/secrets/kubernetes.io/serviceaccount';

test('in a pod: the environment and the service account files, which are read afresh', () => {
  const files = { [`${dir}/token`]: 'first\n', [`${dir}/ca.crt`]: 'CA' };
  const env = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
  const endpoint = inClusterEndpoint(env, readFrom(files));
  assert.equal(endpoint.server, 'https://10.96.0.1:443');
  assert.deepEqual(endpoint.tls?.(), { caPem: 'CA' });
  assert.equal(endpoint.token?.(), 'first');
  files[`${dir}/token`] = 'second';
  assert.equal(endpoint.token?.(), 'second');
  files[`${dir}/ca.crt`] = 'NEXT';
  assert.deepEqual(endpoint.tls?.(), { caPem: 'NEXT' });
  const six = inClusterEndpoint({ ...env, KUBERNETES_SERVICE_HOST: 'fd00::1' }, readFrom(files));
  assert.equal(six.server, 'https://[fd00::1]:443');
});

test('outside a pod, or without the files, the error says what is missing', () => {
  assert.throws(() => inClusterEndpoint({}, readFrom({})), refused(/KUBERNETES_SERVICE_HOST/));
  const env = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
  assert.throws(() => inClusterEndpoint(env, readFrom({})), refused(/serviceaccount\/token/));
});
