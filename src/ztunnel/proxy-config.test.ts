import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_PROXY_CONFIG, readProxyConfig } from './proxy-config.ts';

test('without a file and without PROXY_CONFIG nothing is said', async () => {
  assert.equal(await readProxyConfig({}, undefined), NO_PROXY_CONFIG);
  assert.equal(await readProxyConfig({ PROXY_CONFIG: ' ' }, '\n'), NO_PROXY_CONFIG);
});

test('PROXY_CONFIG overrides the mesh config field by field, metadata key by key', async () => {
  const mesh = `
rootNamespace: istio-system
defaultConfig:
  discoveryAddress: a:1
  statsPort: 1
  binaryPath: /usr/local/bin/envoy
  proxyMetadata: { ISTIO_META_DNS_CAPTURE: "true", A: "1" }
`;
  const env = {
    PROXY_CONFIG: '{"statsPort": 2, "concurrency": 0, "proxyMetadata": {"DNS_CAPTURE": "false"}}',
  };
  assert.deepEqual(await readProxyConfig(env, mesh), {
    discoveryAddress: 'a:1',
    statsPort: 2,
    concurrency: 0,
    proxyMetadata: { DNS_CAPTURE: 'false', A: '1' },
  });
});

test('the metadata may be left out, which the field’s parser does not allow', async () => {
  assert.deepEqual(await readProxyConfig({ PROXY_CONFIG: 'proxyAdminPort: 7' }, undefined), {
    proxyAdminPort: 7,
    proxyMetadata: {},
  });
});

const refused: readonly [string, string | undefined, RegExp][] = [
  [
    'concurrency: many',
    undefined,
    /PROXY_CONFIG\.concurrency is "many": expected a whole number from 0 to 65535/,
  ],
  ['statsPort: 0', undefined, /PROXY_CONFIG\.statsPort is 0: expected a whole number from 1 to 65535/],
  [
    'proxyMetadata: {A: true}',
    undefined,
    /PROXY_CONFIG\.proxyMetadata\.A is true: expected text \(in quotes/,
  ],
  ['[1]', undefined, /PROXY_CONFIG is \[1\]: expected a mapping/],
  ['{', undefined, /PROXY_CONFIG is neither YAML nor JSON: /],
  ['', 'defaultConfig: 7', /\/etc\/istio\/config\/mesh: defaultConfig is 7: expected a mapping/],
];
for (const [own, mesh, message] of refused)
  test(`refuses ${JSON.stringify(mesh ?? own)}`, () =>
    assert.rejects(readProxyConfig({ PROXY_CONFIG: own }, mesh), message));
