import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { readOptions } from './config.ts';

test('the defaults are those of the field', () => {
  assert.deepEqual(readOptions({}), {
    systemNamespace: 'istio-system',
    podName: '',
    leaderElection: true,
    statuses: true,
    untaint: undefined,
    rootNamespace: 'istio-system',
    clusterId: 'Kubernetes',
    revision: 'default',
    trustDomain: 'cluster.local',
    domainSuffix: 'cluster.local',
    tokenAudiences: ['istio-ca'],
    trustedNodeAccounts: new Set(['istio-system/ztunnel']),
    defaultWorkloadTtlSeconds: 86_400,
    maxWorkloadTtlSeconds: 7_776_000,
    rootValidDays: 3650,
    rootCheckMs: 3_600_000,
    pluggedInDir: '/etc/cacerts',
    rootRenewBelowShare: 0.2,
    debounceAfterMs: 100,
    debounceMaxMs: 10_000,
    xdsIdentityCheck: true,
    newStreamsPerSecond: 100,
    farewellMs: 5000,
    instance: 'istiod',
    dryRunPolicies: false,
    onlyByWaypoint: false,
    allocatedVips: true,
    vipPools: {
      v4: { address: '240.240.0.0', prefixLength: 16 },
      v6: { address: '2001:2::', prefixLength: 48 },
    },
    debugOverHttp: true,
    profiling: true,
    unsafeAdminPages: false,
    debugByNamespace: true,
    debugNamespaces: [],
    customHosts: [],
    listen: { host: '::', xdsPort: 15_012, httpPort: 8080, monitoringPort: 15_014 },
  });
});

test('settings are read', () => {
  const options = readOptions({
    POD_NAMESPACE: 'mesh',
    TRUST_DOMAIN: 'example.org',
    CA_TRUSTED_NODE_ACCOUNTS: 'a/b, c/d',
    MAX_WORKLOAD_CERT_TTL: '2160h',
    DEFAULT_WORKLOAD_CERT_TTL: '1h30m',
    PILOT_DEBOUNCE_AFTER: '10ms',
    PILOT_ENABLE_XDS_IDENTITY_CHECK: 'false',
  });
  assert.partialDeepStrictEqual(options, {
    systemNamespace: 'mesh',
    rootNamespace: 'mesh',
    trustDomain: 'example.org',
    trustedNodeAccounts: new Set(['a/b', 'c/d']),
    defaultWorkloadTtlSeconds: 5400,
    maxWorkloadTtlSeconds: 7_776_000,
    debounceAfterMs: 10,
    xdsIdentityCheck: false,
  });
});

describe('what cannot be read stops the program and is named', () => {
  const table: [string, string, RegExp][] = [
    ['PILOT_DEBOUNCE_AFTER', 'soon', /PILOT_DEBOUNCE_AFTER="soon".*a duration/],
    ['DEFAULT_WORKLOAD_CERT_TTL', '0', /a duration/],
    ['DEFAULT_WORKLOAD_CERT_TTL', '91d', /longer than MAX_WORKLOAD_CERT_TTL/],
    ['CA_TRUSTED_NODE_ACCOUNTS', 'ztunnel', /CA_TRUSTED_NODE_ACCOUNTS="ztunnel".*namespace\/account/],
    ['PILOT_ENABLE_XDS_IDENTITY_CHECK', 'yes', /true or false/],
    ['CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE', '101', /0 to 100/],
  ];
  for (const [name, value, expected] of table)
    test(`${name}=${value}`, () => {
      assert.throws(
        () => readOptions({ [name]: value }),
        (error: unknown) => {
          assert.ok(error instanceof MeshError && error.code === 'CONFIG_INVALID');
          assert.match(error.message, expected);
          return true;
        },
      );
    });
});
