import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { inClusterEndpoint, kubeconfigEndpoint } from './config.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof MeshError && error.code === 'CONFIG_INVALID' && pattern.test(error.message);

const readFrom = (files: Record<string, string>) => (path: string) => {
  const text = files[path];
  if (text === undefined) throw new Error(`ENOENT: no such file, open '${path}'`);
  return text;
};

const dir = '/var/run/secrets/kubernetes.io/serviceaccount';

test('in a pod: the environment and the service account files; the token is read afresh', () => {
  const files = { [`${dir}/token`]: 'first\n', [`${dir}/ca.crt`]: 'CA' };
  const env = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
  const endpoint = inClusterEndpoint(env, readFrom(files));
  assert.equal(endpoint.server, 'https://10.96.0.1:443');
  assert.equal(endpoint.caPem, 'CA');
  assert.equal(endpoint.token?.(), 'first');
  files[`${dir}/token`] = 'second';
  assert.equal(endpoint.token?.(), 'second');
  const six = inClusterEndpoint({ ...env, KUBERNETES_SERVICE_HOST: 'fd00::1' }, readFrom(files));
  assert.equal(six.server, 'https://[fd00::1]:443');
});

test('outside a pod, or without the files, the error says what is missing', () => {
  assert.throws(() => inClusterEndpoint({}, readFrom({})), refused(/KUBERNETES_SERVICE_HOST/));
  const env = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
  assert.throws(() => inClusterEndpoint(env, readFrom({})), refused(/serviceaccount\/token/));
});

const kubeconfig = (user: string, cluster = `certificate-authority-data: ${base64('CA')}`): string => `
apiVersion: v1
kind: Config
current-context: here
contexts:
- {name: here, context: {cluster: c, user: u}}
- {name: nobody, context: {cluster: c}}
- {name: broken, context: {cluster: missing, user: u}}
clusters:
- name: c
  cluster:
    server: https://127.0.0.1:16443/
    ${cluster}
users:
- name: u
  user: ${user}
`;

test('a kubeconfig with inline material', () => {
  const user = `{client-certificate-data: ${base64('CERT')}, client-key-data: ${base64('KEY')}}`;
  assert.deepEqual(kubeconfigEndpoint(kubeconfig(user)), {
    server: 'https://127.0.0.1:16443',
    caPem: 'CA',
    clientCertPem: 'CERT',
    clientKeyPem: 'KEY',
  });
  assert.equal(kubeconfigEndpoint(kubeconfig('{token: abc}')).token?.(), 'abc');
  assert.equal(kubeconfigEndpoint(kubeconfig('{token: abc}'), 'nobody').token, undefined);
});

test('file references start at the kubeconfig', () => {
  const text = kubeconfig(
    '{client-certificate: c.pem, client-key: /abs/k.pem, tokenFile: t}',
    'certificate-authority: pki/ca.pem',
  );
  const readFile = readFrom({
    '/home/me/pki/ca.pem': 'CA',
    '/home/me/c.pem': 'C',
    '/abs/k.pem': 'K',
    '/home/me/t': 'T\n',
  });
  const endpoint = kubeconfigEndpoint(text, undefined, { path: '/home/me/config', readFile });
  assert.deepEqual(
    [endpoint.caPem, endpoint.clientCertPem, endpoint.clientKeyPem, endpoint.token?.()],
    ['CA', 'C', 'K', 'T'],
  );
});

test('what cannot be used is named', () => {
  const token = kubeconfig('{token: abc}');
  const cases: readonly [string, string | undefined, RegExp][] = [
    ['[1', undefined, /YAML/],
    ['just text', undefined, /no kubeconfig/],
    ['contexts: 3', undefined, /contexts is no list/],
    ['{}', undefined, /no current-context/],
    [token, 'elsewhere', /no context elsewhere/],
    [token, 'broken', /cluster missing/],
    [kubeconfig('{exec: {command: aws}}'), undefined, /plugin aws.*not supported/],
    [kubeconfig('{auth-provider: {name: gcp}}'), undefined, /auth provider gcp/],
    [kubeconfig('{username: joe, password: x}'), undefined, /password/],
    [kubeconfig(`{client-certificate-data: ${base64('CERT')}}`), undefined, /both/],
    [kubeconfig('{token: abc}', 'insecure-skip-tls-verify: true'), undefined, /insecure-skip-tls-verify/],
    [kubeconfig('{token: abc}', 'proxy-url: x'), undefined, /no certificate-authority/],
  ];
  for (const [text, context, pattern] of cases)
    assert.throws(() => kubeconfigEndpoint(text, context), refused(pattern), String(pattern));
});
