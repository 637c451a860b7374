import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import {
  chooseContext,
  kubeconfigEndpoint,
  kubeconfigPaths,
  loadKubeconfig,
  mergeKubeconfigs,
} from './kubeconfig.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof MeshError && error.code === 'CONFIG_INVALID' && pattern.test(error.message);

const readFrom = (files: Record<string, string>) => (path: string) => {
  const text = files[path];
  if (text === undefined) throw new Error(`ENOENT: no such file, open '${path}'`);
  return text;
};

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
  const { server, tls, token } = kubeconfigEndpoint(kubeconfig(user));
  assert.equal(server, 'https://127.0.0.1:16443');
  assert.deepEqual(tls?.(), { caPem: 'CA', clientCertPem: 'CERT', clientKeyPem: 'KEY' });
  assert.equal(token, undefined);
  assert.equal(kubeconfigEndpoint(kubeconfig('{token: abc}')).token?.(), 'abc');
  assert.equal(kubeconfigEndpoint(kubeconfig('{token: abc}'), 'nobody').token, undefined);
});

test('file references start at the kubeconfig, and the files are read afresh', () => {
  const text = kubeconfig(
    '{client-certificate: c.pem, client-key: /abs/k.pem, tokenFile: t}',
    'certificate-authority: pki/ca.pem',
  );
  const files = {
    '/home/me/pki/ca.pem': 'CA',
    '/home/me/c.pem': 'C',
    '/abs/k.pem': 'K',
    '/home/me/t': 'T\n',
  };
  const readFile = readFrom(files);
  const endpoint = kubeconfigEndpoint(text, undefined, { path: '/home/me/config', readFile });
  assert.deepEqual(endpoint.tls?.(), { caPem: 'CA', clientCertPem: 'C', clientKeyPem: 'K' });
  assert.equal(endpoint.token?.(), 'T');
  files['/home/me/c.pem'] = 'C2';
  files['/abs/k.pem'] = 'K2';
  assert.deepEqual(endpoint.tls?.(), { caPem: 'CA', clientCertPem: 'C2', clientKeyPem: 'K2' });
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
    [kubeconfig('{token: abc}', 'proxy-url: x'), undefined, /proxy-url/],
  ];
  for (const [text, context, pattern] of cases)
    assert.throws(() => kubeconfigEndpoint(text, context), refused(pattern), String(pattern));
});

test('several files: the first that names something wins, and paths start at their own file', () => {
  const first = `
current-context: b
clusters: [{name: one, cluster: {server: https://one:6443, certificate-authority: ca.pem}}]
contexts: [{name: a, context: {cluster: one, user: me, namespace: shop}}]
users: [{name: me, user: {token: first}}]
`;
  const second = `
current-context: a
clusters:
- {name: one, cluster: {server: https://other:6443}}
- {name: two, cluster: {server: https://two/k8s/clusters/c-1, certificate-authority: ca.pem, tls-server-name: inner}}
contexts: [{name: b, context: {cluster: two, user: me}}]
users: [{name: me, user: {token: second}}]
`;
  const files = { '/x/a.yaml': first, '/y/b.yaml': second, '/x/ca.pem': 'CA1', '/y/ca.pem': 'CA2' };
  const readFile = readFrom(files);
  const merged = mergeKubeconfigs([
    { path: '/x/a.yaml', text: first },
    { path: '/y/b.yaml', text: second },
  ]);
  const current = chooseContext(merged, undefined, { readFile });
  assert.equal(current.name, 'b');
  assert.equal(current.endpoint.server, 'https://two/k8s/clusters/c-1');
  assert.deepEqual(current.endpoint.tls?.(), { caPem: 'CA2' });
  assert.equal(current.endpoint.serverName, 'inner');
  assert.equal(current.endpoint.token?.(), 'first');
  const other = chooseContext(merged, 'a', { readFile });
  assert.deepEqual(
    [other.namespace, other.endpoint.server, other.endpoint.tls?.().caPem],
    ['shop', 'https://one:6443', 'CA1'],
  );
  assert.throws(() => chooseContext(merged, 'c', { readFile }), refused(/no context c \(there are: a, b\)/));
});

test('which files are read: the flag, else KUBECONFIG, else the home directory', () => {
  assert.deepEqual(kubeconfigPaths('/f', '/a:/b', '/home/me'), ['/f']);
  assert.deepEqual(kubeconfigPaths(undefined, '/a::/b', '/home/me'), ['/a', '/b']);
  assert.deepEqual(kubeconfigPaths(undefined, '', '/home/me'), ['/home/me/.kube/config']);
  const missing = (path: string): string => {
    if (path === '/b') return kubeconfig('{token: abc}');
    throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
  };
  assert.equal(loadKubeconfig(['/a', '/b'], missing, 'hint').currentContext, 'here');
  assert.throws(() => loadKubeconfig(['/a'], missing, 'do this'), refused(/\/a does not exist; do this/));
});

test('a cluster without a root certificate is verified by the roots of the system', () => {
  const endpoint = kubeconfigEndpoint(kubeconfig('{token: abc}', 'extensions: []'));
  assert.deepEqual(endpoint.tls?.(), { caPem: undefined });
});

const execUser =
  '{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, args: [eks], env: [{name: P, value: q}]}}';

test('a credential plugin is asked again only when its token has expired', () => {
  let nowMs = Date.parse('2026-01-01T00:00:00Z');
  const runs: unknown[] = [];
  const plugins = {
    now: () => nowMs,
    run: (run: { command: string; args: readonly string[]; env: Readonly<Record<string, string>> }) => {
      runs.push(run);
      return JSON.stringify({
        kind: 'ExecCredential',
        status: { token: `t${runs.length}`, expirationTimestamp: '2026-01-01T00:10:00Z' },
      });
    },
  };
  const merged = mergeKubeconfigs([{ path: 'k', text: kubeconfig(execUser) }]);
  const { endpoint } = chooseContext(merged, undefined, { readFile: readFrom({}), plugins });
  assert.equal(endpoint.token?.(), 't1');
  assert.equal(endpoint.token?.(), 't1');
  nowMs += 10 * 60_000;
  assert.equal(endpoint.token?.(), 't2');
  assert.deepEqual(runs[0], {
    command: 'aws',
    args: ['eks'],
    env: {
      P: 'q',
      KUBERNETES_EXEC_INFO:
        '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}',
    },
  });
});

test('a credential plugin’s certificate is renewed like a token', () => {
  let nowMs = Date.parse('2026-01-01T00:00:00Z');
  let runs = 0;
  const run = (): string => {
    runs++;
    const status = { clientCertificateData: `CERT${runs}`, clientKeyData: `KEY${runs}` };
    return JSON.stringify({
      kind: 'ExecCredential',
      status: { ...status, expirationTimestamp: '2026-01-01T00:10:00Z' },
    });
  };
  const merged = mergeKubeconfigs([{ path: 'k', text: kubeconfig(execUser) }]);
  const plugins = { now: () => nowMs, run };
  const { endpoint } = chooseContext(merged, undefined, { readFile: readFrom({}), plugins });
  assert.deepEqual(endpoint.tls?.(), { caPem: 'CA', clientCertPem: 'CERT1', clientKeyPem: 'KEY1' });
  assert.equal(endpoint.token, undefined);
  nowMs += 10 * 60_000;
  assert.deepEqual(endpoint.tls?.(), { caPem: 'CA', clientCertPem: 'CERT2', clientKeyPem: 'KEY2' });
});

test('a credential plugin that fails is named, and what it printed is not shown', () => {
  const ask = (answer: () => string, user = execUser): unknown =>
    chooseContext(mergeKubeconfigs([{ path: 'k', text: kubeconfig(user) }]), undefined, {
      readFile: readFrom({}),
      plugins: { now: () => 0, run: answer },
    });
  const fails = (): string => {
    throw new Error('exit code 3');
  };
  assert.throws(() => ask(fails), refused(/user u of k: the credential plugin aws failed: exit code 3/));
  assert.throws(
    () => ask(() => 'secret-text'),
    (error: Error) => /printed no JSON/.test(error.message) && !error.message.includes('secret-text'),
  );
  assert.throws(() => ask(() => '{"kind":"Status"}'), refused(/no ExecCredential/));
  assert.throws(() => ask(() => '{"kind":"ExecCredential","status":{}}'), refused(/neither/));
  const half = '{"kind":"ExecCredential","status":{"token":"t","clientCertificateData":"C"}}';
  assert.throws(() => ask(() => half), refused(/without its key/));
  const old = '{exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: aws}}';
  assert.throws(() => ask(() => '', old), refused(/v1alpha1/));
});
