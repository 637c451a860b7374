// Expected policies are written from the table of control-plane.md §2.17 and trap 2 of §14.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inheritedMode, type Mode } from '#k8s/mutual-tls.ts';
import type { MutualTlsMode, PeerAuthentication } from '#k8s/objects.ts';
import { matchOf, type PolicyRule } from '#model/policy.ts';
import { peerAuthentication } from '../ambient/fixtures.ts';
import {
  convertPeerAuthentication,
  peerAuthenticationFor,
  staticStrictPolicy,
} from './peer-authentication.ts';

const ROOT = 'istio-system';
const STATIC = 'istio-system/istio_converted_static_strict';
const CONVERTED = 'shop/converted_peer_authentication_p';
const WEB = { app: 'web' };

const S = matchOf({ notPrincipals: [{ kind: 'presence' }] });
const off = (port: number) => [matchOf({ notDestinationPorts: [port] })];
const on = (port: number): PolicyRule => ({
  clauses: [[matchOf({ notPrincipals: [{ kind: 'presence' }], destinationPorts: [port] })]],
});

function selecting(
  mode: MutualTlsMode | undefined,
  ports: Record<string, MutualTlsMode>,
): PeerAuthentication {
  return peerAuthentication('p', {
    selector: { matchLabels: WEB },
    ...(mode === undefined ? {} : { mtls: { mode } }),
    portLevelMtls: Object.fromEntries(Object.entries(ports).map(([port, value]) => [port, { mode: value }])),
  });
}
const plain = (mode: MutualTlsMode, namespace = 'shop', created = '2026-01-01T00:00:00Z', name = 'default') =>
  peerAuthentication(name, { mtls: { mode } }, namespace, created);

test('STRICT itself denies whoever has no identity', () => {
  assert.deepEqual(staticStrictPolicy(ROOT), {
    name: 'istio_converted_static_strict',
    namespace: ROOT,
    scope: 'WorkloadSelector',
    action: 'Deny',
    rules: [{ clauses: [[S]] }],
    dryRun: false,
  });
});

describe('port-level modes', () => {
  const table: {
    says: string;
    mode: MutualTlsMode | undefined;
    ports: Record<string, MutualTlsMode>;
    inherited: Mode;
    rules: PolicyRule[] | undefined;
    listed: string[];
  }[] = [
    {
      says: 'STRICT, all ports STRICT',
      mode: 'STRICT',
      ports: { 80: 'STRICT' },
      inherited: 'PERMISSIVE',
      rules: undefined,
      listed: [STATIC],
    },
    {
      says: 'STRICT with exemptions, ascending',
      mode: 'STRICT',
      ports: { 9090: 'PERMISSIVE', 80: 'DISABLE', 443: 'STRICT' },
      inherited: 'PERMISSIVE',
      rules: [{ clauses: [[S], off(80), off(9090)] }],
      listed: [CONVERTED],
    },
    {
      says: 'PERMISSIVE with guarded ports',
      mode: 'PERMISSIVE',
      ports: { 443: 'STRICT', 80: 'STRICT', 81: 'DISABLE' },
      inherited: 'STRICT',
      rules: [on(80), on(443)],
      listed: [CONVERTED],
    },
    {
      says: 'DISABLE with a guarded port',
      mode: 'DISABLE',
      ports: { 80: 'STRICT' },
      inherited: 'PERMISSIVE',
      rules: [on(80)],
      listed: [CONVERTED],
    },
    {
      says: 'PERMISSIVE with nothing guarded',
      mode: 'PERMISSIVE',
      ports: { 80: 'DISABLE' },
      inherited: 'STRICT',
      rules: undefined,
      listed: [],
    },
    {
      says: 'UNSET under STRICT, STRICT port',
      mode: 'UNSET',
      ports: { 80: 'STRICT' },
      inherited: 'STRICT',
      rules: undefined,
      listed: [STATIC],
    },
    {
      says: 'UNSET under STRICT, exemption',
      mode: undefined,
      ports: { 80: 'PERMISSIVE' },
      inherited: 'STRICT',
      rules: [{ clauses: [off(80), [S]] }],
      listed: [CONVERTED],
    },
    // Istio leaves the static policy in force here (a quirk); an exemption that a person wrote shall be one.
    {
      says: 'UNSET under STRICT, DISABLE',
      mode: 'UNSET',
      ports: { 80: 'DISABLE' },
      inherited: 'STRICT',
      rules: [{ clauses: [off(80), [S]] }],
      listed: [CONVERTED],
    },
    {
      says: 'UNSET under PERMISSIVE, guarded',
      mode: 'UNSET',
      ports: { 80: 'STRICT' },
      inherited: 'PERMISSIVE',
      rules: [on(80)],
      listed: [CONVERTED],
    },
    {
      says: 'a port left UNSET says nothing',
      mode: 'STRICT',
      ports: { 80: 'UNSET' },
      inherited: 'PERMISSIVE',
      rules: undefined,
      listed: [STATIC],
    },
    {
      says: 'no ports',
      mode: 'STRICT',
      ports: {},
      inherited: 'PERMISSIVE',
      rules: undefined,
      listed: [STATIC],
    },
  ];
  for (const { says, mode, ports, inherited, rules, listed } of table)
    test(says, () => {
      const object = selecting(mode, ports);
      assert.deepEqual(convertPeerAuthentication(object, inherited, ROOT)?.rules, rules);
      const all = [object, plain(inherited)];
      assert.deepEqual(peerAuthenticationFor(all, 'shop', WEB, ROOT), listed);
    });

  test('without a selector, or in the root namespace, ports are ignored', () => {
    const spec = { mtls: { mode: 'STRICT' }, portLevelMtls: { 80: { mode: 'DISABLE' } } } as const;
    assert.equal(convertPeerAuthentication(peerAuthentication('p', spec), 'STRICT', ROOT), undefined);
    const inRoot = peerAuthentication('p', { ...spec, selector: { matchLabels: WEB } }, ROOT);
    assert.equal(convertPeerAuthentication(inRoot, 'STRICT', ROOT), undefined);
  });
});

describe('the effective mode', () => {
  const table: [string, PeerAuthentication[], Mode][] = [
    ['nobody says anything', [], 'PERMISSIVE'],
    ['the mesh', [plain('STRICT', ROOT)], 'STRICT'],
    ['the namespace over the mesh', [plain('STRICT', ROOT), plain('DISABLE')], 'DISABLE'],
    ['UNSET inherits', [plain('STRICT', ROOT), plain('UNSET')], 'STRICT'],
    ['another namespace is nothing to us', [plain('STRICT', 'bank')], 'PERMISSIVE'],
    [
      'the oldest of several',
      [
        plain('STRICT', 'shop', '2026-01-02T00:00:00Z', 'a'),
        plain('DISABLE', 'shop', '2026-01-01T00:00:00Z', 'b'),
      ],
      'DISABLE',
    ],
    [
      'the name breaks a tie',
      [
        plain('STRICT', 'shop', '2026-01-01T00:00:00Z', 'b'),
        plain('DISABLE', 'shop', '2026-01-01T00:00:00Z', 'a'),
      ],
      'DISABLE',
    ],
  ];
  for (const [says, objects, expected] of table)
    test(says, () => assert.equal(inheritedMode(objects, 'shop', ROOT), expected));

  test('a selector over the namespace, for the workloads it matches only', () => {
    const objects = [plain('STRICT'), selecting('PERMISSIVE', {})];
    assert.deepEqual(peerAuthenticationFor(objects, 'shop', WEB, ROOT), []);
    assert.deepEqual(peerAuthenticationFor(objects, 'shop', { app: 'db' }, ROOT), [STATIC]);
  });

  test('selectors in the root namespace are ignored', () => {
    const inRoot = peerAuthentication(
      'p',
      { selector: { matchLabels: WEB }, mtls: { mode: 'STRICT' } },
      ROOT,
    );
    assert.deepEqual(peerAuthenticationFor([inRoot], ROOT, WEB, ROOT), []);
    assert.deepEqual(peerAuthenticationFor([inRoot], 'shop', WEB, ROOT), []);
  });
});
