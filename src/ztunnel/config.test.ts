import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { containerPath, type Environment, parseConfig as parse, type ZtunnelConfig } from './config.ts';

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
  assert.equal(config.keepaliveMs, 180_000);
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
  [{ SECRET_TTL: '1h30m' }, (c) => c.secretTtlSeconds, 5_400],
  [{ ENABLE_ORIG_SRC: 'true' }, (c) => c.originalSource, 'required'],
  [{ ENABLE_ORIG_SRC: 'false' }, (c) => c.originalSource, 'never'],
  [{ KEEPALIVE_ENABLED: 'false' }, (c) => c.keepaliveMs, undefined],
  [{ LOG_FORMAT: 'json', RUST_LOG: 'debug' }, (c) => [c.logFormat, c.logLevel], ['json', 'debug']],
  [{ RUST_LOG: 'warn,access=info' }, (c) => c.logLevel, 'warn'],
];
for (const [env, read, expected] of accepted)
  test(`accepts ${JSON.stringify(env)}`, () => assert.deepEqual(read(parseConfig(env)), expected));

const refused: readonly [string, string, string][] = [
  ['PROXY_MODE', 'dedicated', '"shared"'],
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
  ['INSTANCE_IP', 'here', 'an IP address'],
  ['LOG_FORMAT', 'xml', '"plain" or "json"'],
  ['RUST_LOG', 'loud', '"debug", "info", "warn" or "error"'],
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

test('relative paths start at the container’s root', () => {
  assert.equal(
    containerPath('./var/run/secrets/istio/root-cert.pem'),
    '/var/run/secrets/istio/root-cert.pem',
  );
  assert.equal(containerPath('/etc/x'), '/etc/x');
});
