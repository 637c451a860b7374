import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { containerPath, parseConfig as parse, type ZtunnelConfig } from './config.ts';
import type { Environment } from './environment.ts';
import { NO_PROXY_CONFIG } from './proxy-config.ts';

const parseConfig = (env: Environment): ZtunnelConfig => parse({ NODE_NAME: 'n1', ...env });

test('defaults are the field’s', () => {
  const config = parseConfig({});
  assert.equal(config.clusterId, 'Kubernetes');
  assert.deepEqual(config.xds, { host: 'localhost', port: 15012 });
  assert.equal(config.packetMark, 0x539);
  assert.equal(config.drainMs, 5_000);
  assert.equal(config.secretTtlSeconds, 86_400);
  assert.equal(config.zdsPath, '/var/run/ztunnel/ztunnel.sock');
  assert.equal(config.originalSource, 'best-effort');
  assert.deepEqual(config.keepalive, {
    idleMs: 180_000,
    intervalMs: 180_000,
    probes: 9,
    userTimeoutMs: undefined,
  });
  assert.deepEqual([config.adminPort, config.statsPort, config.readinessPort], [15000, 15020, 15021]);
});

const accepted: readonly [Environment, (config: ZtunnelConfig) => unknown, unknown][] = [
  [{ KUBERNETES_SERVICE_HOST: '10.96.0.1' }, (c) => c.xds, { host: 'istiod.istio-system.svc', port: 15012 }],
  [{ XDS_ADDRESS: '' }, (c) => c.xds, undefined],
  [{ XDS_ADDRESS: 'https://[::1]:15012' }, (c) => c.xds, { host: '::1', port: 15012 }],
  [{ CA_ADDRESS: 'ca.example:99' }, (c) => c.ca, { host: 'ca.example', port: 99 }],
  [{ CLUSTER_ID: 'a', ISTIO_META_CLUSTER_ID: 'b' }, (c) => c.clusterId, 'b'],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: '30' }, (c) => c.drainMs, 25_000],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: '10' }, (c) => c.drainMs, 9_000],
  [{ TERMINATION_GRACE_PERIOD_SECONDS: '1' }, (c) => c.drainMs, 1_000],
  [
    { TERMINATION_GRACE_PERIOD_SECONDS: '30', CONNECTION_TERMINATION_DEADLINE: '500ms' },
    (c) => c.drainMs,
    500,
  ],
  [{}, (c) => c.dnsProxy, { ips: ['127.0.0.1', '::1'], port: 15053 }],
  [{ IPV6_ENABLED: 'false' }, (c) => c.dnsProxy?.ips, ['127.0.0.1']],
  [
    { ISTIO_META_DNS_CAPTURE: 'TRUE', ISTIO_META_DNS_PROXY_ADDR: 'localhost:5353' },
    (c) => c.dnsProxy,
    { ips: ['127.0.0.1', '::1'], port: 5353 },
  ],
  [{ ISTIO_META_DNS_PROXY_ADDR: '127.0.0.9:53' }, (c) => c.dnsProxy, { ips: ['127.0.0.9'], port: 53 }],
  [{ ISTIO_META_DNS_PROXY_ADDR: '[fd00::1]:53' }, (c) => c.dnsProxy, { ips: ['fd00::1'], port: 53 }],
  [{ ISTIO_META_DNS_CAPTURE: 'false' }, (c) => c.dnsProxy, undefined],
  [{ ISTIO_META_DNS_CAPTURE: 'yes' }, (c) => c.dnsProxy, undefined],
  [{ PREFERED_SERVICE_NAMESPACE: 'shared' }, (c) => c.preferredServiceNamespace, 'shared'],
  [{ INSTANCE_IP: '' }, (c) => c.instanceIp, '1.1.1.1'],
  [{}, (c) => c.tls, { allowsTls12: false, requiresPostQuantum: false }],
  [{ TLS12_ENABLED: 'true' }, (c) => c.tls.allowsTls12, true],
  [{ COMPLIANCE_POLICY: 'pqc' }, (c) => c.tls.requiresPostQuantum, true],
  [{ COMPLIANCE_POLICY: '' }, (c) => c.tls.requiresPostQuantum, false],
  [{ CRL_PATH: '' }, (c) => c.crlPath, undefined],
  [{ CRL_PATH: './crl/ca-crl.pem' }, (c) => c.crlPath, '/crl/ca-crl.pem'],
  [{ AUTHZ_POLICY_INFO_LOGGING: 'true' }, (c) => c.policyInfoLogging, true],
  [{ SECRET_TTL: '1h30m' }, (c) => c.secretTtlSeconds, 5_400],
  [{ ENABLE_ORIG_SRC: 'true' }, (c) => c.originalSource, 'required'],
  [{ ENABLE_ORIG_SRC: 'false' }, (c) => c.originalSource, 'never'],
  [{ KEEPALIVE_ENABLED: 'false' }, (c) => c.keepalive, undefined],
  [{ INPOD_UDS: '/run/z/z.sock' }, (c) => c.handOverPath, '/run/z/culvert-hand-over.sock'],
  [{ CULVERT_HAND_OVER_UDS: '' }, (c) => c.handOverPath, undefined],
  [{ LOG_FORMAT: 'json', RUST_LOG: 'debug' }, (c) => [c.logFormat, c.logFilter.level], ['json', 'debug']],
  [
    { KEEPALIVE_TIME: '10s', KEEPALIVE_INTERVAL: '5s', KEEPALIVE_RETRIES: '3', USER_TIMEOUT_ENABLED: 'true' },
    (c) => c.keepalive,
    { idleMs: 10_000, intervalMs: 5_000, probes: 3, userTimeoutMs: 25_000 },
  ],
  [{ XDS_ON_DEMAND: 'true', ISTIO_META_DNS_CAPTURE: 'false' }, (c) => c.xdsOnDemand, true],
  [
    { XDS_HEADER_X_Tenant: 'a', CA_HEADER_b: '' },
    (c) => [c.xdsHeaders, c.caHeaders],
    [{ x_tenant: 'a' }, { b: '' }],
  ],
  [
    { ISTIO_META_A: '1', ISTIO_METAJSON_LABELS: '{"app":"z","n":[1]}' },
    (c) => c.nodeMetadata,
    { A: '1', LABELS: { app: 'z', n: [1] } },
  ],
  [{ LOCAL_XDS_PATH: '/state.yaml', LOCAL_XDS: '' }, (c) => c.localXds, { path: '/state.yaml' }],
  [{ LOCAL_XDS: '{}' }, (c) => c.localXds, { text: '{}' }],
  [{ FAKE_CA: 'true' }, (c) => c.fakeCa, { certPath: undefined, keyPath: undefined }],
  [
    { FAKE_CA: 'true', FAKE_CA_CERT: 'c', FAKE_CA_KEY: 'k' },
    (c) => c.fakeCa,
    { certPath: 'c', keyPath: 'k' },
  ],
  [
    { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/pod/sa', NODE_NAME: '' },
    (c) => [c.mode, c.workload, c.nodeName, c.packetMark],
    ['dedicated', { namespace: 'ns', name: 'pod', serviceAccount: 'sa' }, undefined, undefined],
  ],
  [
    { HTTP2_FRAME_SIZE: '16384' },
    (c) => c.notices,
    ['HTTP2_FRAME_SIZE has no effect: windows and frames follow the memory that is free'],
  ],
  [
    { RUST_LOG: 'warn,access=info' },
    (c) => [c.logFilter.level, [...c.logFilter.scopes]],
    ['warn', [['access', 'info']]],
  ],
];
/** The field's examples (ztunnel.md §1.4), and its rule above four cores; up to four, one thread. */
const threads: readonly [Environment, cores: number, expected: number][] = [
  [{}, 1, 1],
  [{}, 4, 1],
  [{}, 5, 2],
  [{}, 32, 8],
  [{ ZTUNNEL_CPU_LIMIT: '32' }, 2, 8],
  [{ ZTUNNEL_CPU_LIMIT: '2' }, 32, 1],
  [{ ZTUNNEL_CPU_LIMIT: '0' }, 32, 1],
  [{ ZTUNNEL_CPU_LIMIT: '' }, 32, 8],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: '16' }, 2, 16],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: '500m', ZTUNNEL_CPU_LIMIT: '32' }, 32, 1],
  [{ ZTUNNEL_RESOURCE_CPU_LIMIT: '4.5' }, 2, 5],
  [{ ZTUNNEL_RESOURCE_CPU_REQUEST: '7500m' }, 16, 8],
  [{ ZTUNNEL_RESOURCE_CPU_REQUEST: '2' }, 4, 1],
  [{ ZTUNNEL_WORKER_THREADS: '1' }, 32, 1],
  [{ ZTUNNEL_WORKER_THREADS: '4' }, 2, 4],
  [{ ZTUNNEL_WORKER_THREADS: '0' }, 6, 6],
  [{ ZTUNNEL_WORKER_THREADS: '0', ZTUNNEL_RESOURCE_CPU_LIMIT: '1500m' }, 6, 2],
  [{ ZTUNNEL_WORKER_THREADS: '50%', ZTUNNEL_CPU_LIMIT: '8' }, 2, 4],
  [{ ZTUNNEL_WORKER_THREADS: '30%', ZTUNNEL_CPU_LIMIT: '16' }, 2, 5],
  [{ ZTUNNEL_WORKER_THREADS: '10%' }, 4, 1],
  [{ ZTUNNEL_WORKER_THREADS: '0' }, 500, 128],
];
for (const [env, cores, expected] of threads)
  test(`threads on ${cores} cores with ${JSON.stringify(env)}: ${expected}`, () =>
    assert.equal(parse({ NODE_NAME: 'n1', ...env }, NO_PROXY_CONFIG, cores).threads, expected));

test('concurrency of the mesh’s configuration stands behind ZTUNNEL_WORKER_THREADS', () => {
  const threadsOf = (env: Environment, concurrency: number): number =>
    parse({ NODE_NAME: 'n1', ...env }, { ...NO_PROXY_CONFIG, concurrency }, 6).threads;
  assert.deepEqual([threadsOf({}, 3), threadsOf({}, 0)], [3, 6]);
  assert.equal(threadsOf({ ZTUNNEL_WORKER_THREADS: '2' }, 3), 2);
});

for (const [env, read, expected] of accepted)
  test(`accepts ${JSON.stringify(env)}`, () => assert.deepEqual(read(parseConfig(env)), expected));

const THREADS_FORM =
  'a whole number up to 128 (0: one for each core), or a percentage of the cores from "1%" to "100%"';
const refused: readonly [string, string, string][] = [
  ['PROXY_MODE', 'sidecar', '"shared" or "dedicated"'],
  ['ENABLE_PROXY', 'false', '"true" (a ztunnel that only answers DNS is not built)'],
  ['UNSTABLE_ENABLE_SOCKS5', 'maybe', 'exactly "true" or "false"'],
  ['XDS_ON_DEMAND', 'true', '"false" while the DNS proxy is on (ISTIO_META_DNS_CAPTURE)'],
  ['XDS_ON_DEMAND', '1', 'exactly "true" or "false"'],
  ['XDS_HEADER_a b', 'c', 'a name that a gRPC request may carry behind the prefix'],
  ['CA_HEADER_authorization', 'c', 'a name that a gRPC request may carry behind the prefix'],
  ['XDS_HEADER_a', 'c\nd', 'visible ASCII characters'],
  ['ISTIO_METAJSON_LABELS', '{', 'JSON'],
  ['FAKE_CA', 'yes', 'exactly "true" or "false"'],
  ['FAKE_CA_CERT', '/c.pem', 'FAKE_CA_KEY beside it: a root is a certificate and its key'],
  ['FAKE_CA_KEY', '/k.pem', 'FAKE_CA_CERT beside it: a root is a certificate and its key'],
  ['KEEPALIVE_RETRIES', '0', 'a whole number from 1 to 127'],
  ['HTTP2_FRAME_SIZE', '1024', 'a whole number from 16384 to 16777215'],
  ['ZTUNNEL_WORKER_THREADS', '0%', THREADS_FORM],
  ['ZTUNNEL_WORKER_THREADS', '101%', THREADS_FORM],
  ['ZTUNNEL_WORKER_THREADS', '129', THREADS_FORM],
  ['ZTUNNEL_WORKER_THREADS', 'two', THREADS_FORM],
  ['ZTUNNEL_WORKER_THREADS', '', THREADS_FORM],
  ['ZTUNNEL_CPU_LIMIT', '1.5', 'a whole number from 0 to 65535'],
  ['ZTUNNEL_RESOURCE_CPU_REQUEST', '0', 'a quantity of CPUs such as "2", "1.5" or "500m"'],
  ['ZTUNNEL_RESOURCE_CPU_LIMIT', '2 cores', 'a quantity of CPUs such as "2", "1.5" or "500m"'],
  ['IPV6_ENABLED', 'True', 'exactly "true" or "false"'],
  ['ENABLE_ORIG_SRC', 'yes', 'exactly "true" or "false"'],
  ['SECRET_TTL', 'soon', 'a duration such as "5s", "1m30s" or "500ms"'],
  [
    'XDS_ADDRESS',
    'http://istiod.istio-system.svc:15010',
    'a URL such as "https://istiod.istio-system.svc:15012"',
  ],
  ['CA_ADDRESS', 'https://:1', 'a URL such as "https://istiod.istio-system.svc:15012"'],
  ['POOL_MAX_STREAMS_PER_CONNECTION', '0', 'a whole number from 1 to 65535'],
  ['PACKET_MARK', '0x539', 'a whole number from 1 to 4294967295'],
  ['ISTIO_META_DNS_PROXY_ADDR', 'localhost', '"localhost:PORT" or "ADDRESS:PORT"'],
  ['ISTIO_META_DNS_PROXY_ADDR', 'localhost:0', '"localhost:PORT" or "ADDRESS:PORT"'],
  ['ISTIO_META_DNS_PROXY_ADDR', 'dns.example:53', '"localhost:PORT" or "ADDRESS:PORT"'],
  ['TLS12_ENABLED', '1', 'exactly "true" or "false"'],
  ['COMPLIANCE_POLICY', 'fips-140-2', '"" or "pqc"'],
  ['INSTANCE_IP', 'here', 'an IP address'],
  ['LOG_FORMAT', 'xml', '"plain" or "json"'],
  ['RUST_LOG', 'loud', 'levels such as "debug", "info" or "off", or "access=debug,info"'],
  ['TERMINATION_GRACE_PERIOD_SECONDS', '-1', 'a duration such as "5s", "1m30s" or "500ms"'],
];
for (const [name, value, expected] of refused)
  test(`refuses ${name}=${value}`, () => {
    assert.throws(
      () => parseConfig({ [name]: value }),
      (error) => {
        assert.ok(error instanceof MeshError);
        assert.equal(error.code, 'CONFIG_INVALID');
        assert.equal(error.message, `${name}=${JSON.stringify(value)} is not valid: expected ${expected}`);
        return true;
      },
    );
  });

test('the node’s name is required: without it no pod could be told from another node’s', () => {
  assert.throws(
    () => parse({}),
    /^MeshError: NODE_NAME is not set: expected the name of the Kubernetes node/,
  );
});

test('two sources of static state are one too many', () => {
  assert.throws(
    () => parseConfig({ LOCAL_XDS_PATH: '/a', LOCAL_XDS: '{}' }),
    /LOCAL_XDS_PATH="\/a" is not valid: expected it alone, or LOCAL_XDS alone/,
  );
});

test('a root from files means nothing without FAKE_CA', () => {
  assert.throws(
    () => parseConfig({ FAKE_CA_CERT: 'c', FAKE_CA_KEY: 'k' }),
    /FAKE_CA_CERT="c" is not valid: expected FAKE_CA=true beside it/,
  );
});

test('dedicated mode needs its workload', () => {
  assert.throws(
    () => parseConfig({ PROXY_MODE: 'dedicated' }),
    /PROXY_WORKLOAD_INFO is not set: expected "NAMESPACE\/NAME\/SERVICE-ACCOUNT"/,
  );
  for (const value of ['a/b', 'a//c', 'a/b/c/d'])
    assert.throws(
      () => parseConfig({ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: value }),
      /PROXY_WORKLOAD_INFO=".*" is not valid/,
    );
});

test('the mesh’s own configuration stands behind the environment', () => {
  const proxy = {
    discoveryAddress: 'istiod.mesh:15012',
    proxyAdminPort: 15_100,
    statsPort: 15_120,
    concurrency: 4,
    proxyMetadata: { DNS_CAPTURE: 'false', CLUSTER_ID: 'from-mesh', A: 'mesh' },
  };
  const config = parse({ NODE_NAME: 'n1', XDS_ON_DEMAND: 'true', ISTIO_META_A: 'env' }, proxy);
  assert.deepEqual(config.xds, { host: 'istiod.mesh', port: 15_012 });
  assert.deepEqual([config.adminPort, config.statsPort, config.readinessPort], [15_100, 15_120, 15_021]);
  assert.equal(config.clusterId, 'from-mesh');
  assert.deepEqual(config.nodeMetadata, { DNS_CAPTURE: 'false', CLUSTER_ID: 'from-mesh', A: 'env' });
  assert.equal(config.threads, 4);
  assert.deepEqual(parse({ NODE_NAME: 'n1', XDS_ADDRESS: 'https://x:1' }, proxy).xds, { host: 'x', port: 1 });
  // It does not follow the discovery address (ztunnel.md §1.4).
  assert.deepEqual(config.ca, { host: 'localhost', port: 15_012 });
});

/** Every name that is asked for, whatever the answer. */
function variablesRead(): Set<string> {
  const names = new Set<string>();
  const env = (fixed: Environment): Environment =>
    new Proxy(fixed, {
      get: (target, name) => {
        names.add(String(name));
        return target[String(name)];
      },
    });
  parse(env({ NODE_NAME: 'n1' }));
  parse(env({ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'a/b/c' }));
  // Not read by name: the loader of the mesh config, and families of variables.
  return names
    .add('PROXY_CONFIG')
    .add('ISTIO_META_*')
    .add('ISTIO_METAJSON_*')
    .add('XDS_HEADER_*')
    .add('CA_HEADER_*');
}

test('docs/CONFIG.md lists exactly the variables that are read', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/CONFIG.md'), 'utf8');
  const table = page.slice(page.indexOf('## ztunnel'), page.indexOf('## Control plane'));
  const listed = [...table.matchAll(/^\| (`[^|]*?) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
  );
  assert.deepEqual(listed.toSorted(), [...variablesRead()].toSorted());
});

test('relative paths start at the container’s root', () => {
  assert.equal(
    containerPath('./var/run/secrets/istio/root-cert.pem'),
    '/var/run/secrets/istio/root-cert.pem',
  );
  assert.equal(containerPath('/etc/x'), '/etc/x');
});
