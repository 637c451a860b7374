// Expected policies are written from control-plane.md §3.3, §3.4 and trap 1 of §14.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { AuthorizationPolicy } from '#k8s/objects.ts';
import { matchOf, type Policy, type PolicyMatch, type PolicyRule } from '#model/policy.ts';
import { ip } from '#net/ip.ts';
import { authorizationPolicy } from '../ambient/fixtures.ts';
import { convertAuthorizationPolicy } from './authorization-policy.ts';

type Spec = NonNullable<AuthorizationPolicy['spec']>;
type Rules = NonNullable<Spec['rules']>;

const OPTIONS = { rootNamespace: 'istio-system', dryRun: false, trustDomains: ['cluster.local'] };
const convert = (spec: Spec, where = 'shop', annotations = {}, options = OPTIONS) =>
  convertAuthorizationPolicy(authorizationPolicy('p', spec, where, annotations), options);

function enforced(spec: Spec, where = 'shop'): Policy {
  const conversion = convert(spec, where);
  assert.equal(conversion.kind, 'enforced');
  return (conversion as { policy: Policy }).policy;
}
const rulesOf = (action: 'ALLOW' | 'DENY', rules: Rules): readonly PolicyRule[] =>
  enforced({ action, rules }).rules;
const match = (fields: Partial<PolicyMatch>): PolicyMatch => matchOf(fields);
const exact = (text: string) => ({ kind: 'exact', text }) as const;

describe('what is sent', () => {
  const table: [string, Spec, Record<string, string>, string][] = [
    ['targetRefs', { targetRefs: [{ kind: 'Gateway', name: 'w' }] }, {}, 'waypoint'],
    ['targetRef', { targetRef: { kind: 'Gateway', name: 'w' } }, {}, 'waypoint'],
    ['CUSTOM', { action: 'CUSTOM', rules: [{}] }, {}, 'action'],
    ['AUDIT', { action: 'AUDIT', rules: [{}] }, {}, 'action'],
    ['a dry run', { action: 'DENY', rules: [{}] }, { 'istio.io/dry-run': 'true' }, 'dry-run'],
    [
      'a dry run for a waypoint',
      { targetRefs: [{ kind: 'Gateway', name: 'w' }] },
      { 'istio.io/dry-run': 'true' },
      'dry-run',
    ],
  ];
  for (const [says, spec, annotations, reason] of table)
    test(`not ${says}`, () => {
      const conversion = convert(spec, 'shop', annotations);
      assert.ok(conversion.kind === 'not-sent');
      assert.equal(conversion.reason, reason);
    });

  test('a dry run is marked when the proxies are said to know it', () => {
    const conversion = convert(
      { rules: [{}] },
      'shop',
      { 'istio.io/dry-run': 'true' },
      { ...OPTIONS, dryRun: true, trustDomains: ['cluster.local'] },
    );
    assert.ok(conversion.kind === 'enforced' && conversion.policy.dryRun);
  });

  test('scope: selector, namespace, mesh', () => {
    assert.equal(enforced({ selector: { matchLabels: { a: 'b' } } }).scope, 'WorkloadSelector');
    assert.equal(enforced({ selector: {} }).scope, 'WorkloadSelector');
    assert.equal(enforced({}).scope, 'Namespace');
    assert.equal(enforced({}, 'istio-system').scope, 'Global');
  });

  test('no spec at all is ALLOW without rules: nothing is allowed', () => {
    const conversion = convertAuthorizationPolicy(authorizationPolicy('p', undefined), OPTIONS);
    assert.ok(conversion.kind === 'enforced');
    assert.equal(conversion.policy.action, 'Allow');
    assert.deepEqual(conversion.policy.rules, []);
  });
});

describe('rules at L4', () => {
  test('trust domains of a source are not for node proxies: an ALLOW loses the rule, and is not widened by it', () => {
    const source = { principals: ['cluster.local/ns/a/sa/b'], trustDomains: ['cluster.local'] };
    assert.deepEqual(enforced({ rules: [{ from: [{ source }] }] }).rules, []);
    const denied = enforced({ action: 'DENY', rules: [{ from: [{ source }] }] }).rules;
    assert.equal(denied.length, 1);
  });

  test('an empty rule matches everything', () => {
    assert.deepEqual(rulesOf('ALLOW', [{}]), [{ clauses: [] }]);
  });

  test('operations, sources, conditions, in this order', () => {
    const rules = rulesOf('ALLOW', [
      {
        when: [
          { key: 'destination.port', values: ['80'], notValues: ['81'] },
          { key: 'source.namespace', values: ['a*'] },
        ],
        from: [
          {
            source: {
              principals: ['*', '*/sa/x', 'cluster.local/*', 'cluster.local/ns/a/sa/b'],
              notNamespaces: ['bad'],
              serviceAccounts: ['web', 'bank/teller'],
              ipBlocks: ['10.0.0.0/8', '192.0.2.1'],
            },
          },
          { source: { notPrincipals: ['*'] } },
        ],
        to: [{ operation: { ports: ['8080', '9090'], notPorts: ['22'] } }],
      },
    ]);
    assert.deepEqual(rules, [
      {
        clauses: [
          [match({ destinationPorts: [8080, 9090], notDestinationPorts: [22] })],
          [
            match({
              principals: [
                { kind: 'presence' },
                { kind: 'suffix', text: '/sa/x' },
                { kind: 'prefix', text: 'cluster.local/' },
                exact('cluster.local/ns/a/sa/b'),
              ],
              notNamespaces: [exact('bad')],
              serviceAccounts: [
                { namespace: 'shop', serviceAccount: 'web' },
                { namespace: 'bank', serviceAccount: 'teller' },
              ],
              sourceIps: [
                { address: ip('10.0.0.0'), prefixLength: 8 },
                { address: ip('192.0.2.1'), prefixLength: 32 },
              ],
            }),
            match({ notPrincipals: [{ kind: 'presence' }] }),
          ],
          [match({ destinationPorts: [80], notDestinationPorts: [81] })],
          [match({ namespaces: [{ kind: 'prefix', text: 'a' }] })],
        ],
      },
    ]);
  });

  test('conditions on addresses and principals', () => {
    const cidr = { address: ip('fd00::'), prefixLength: 8 };
    assert.deepEqual(
      rulesOf('DENY', [
        {
          when: [
            { key: 'source.ip', notValues: ['fd00::/8'] },
            { key: 'destination.ip', values: ['fd00::/8'] },
            { key: 'source.principal', values: ['*'] },
          ],
        },
      ]),
      [
        {
          clauses: [
            [match({ notSourceIps: [cidr] })],
            [match({ destinationIps: [cidr] })],
            [match({ principals: [{ kind: 'presence' }] })],
          ],
        },
      ],
    );
  });
});

describe('what node proxies cannot enforce', () => {
  const http: Rules[number] = { to: [{ operation: { methods: ['GET'] } }] };
  const plain: Rules[number] = { to: [{ operation: { ports: ['80'] } }] };

  test('ALLOW: the whole rule goes, the others stay; with none left all is denied', () => {
    assert.equal(rulesOf('ALLOW', [http, plain]).length, 1);
    assert.deepEqual(rulesOf('ALLOW', [http]), []);
    const mixed: Rules[number] = { to: [{ operation: { ports: ['80'], paths: ['/x'] } }] };
    assert.deepEqual(rulesOf('ALLOW', [mixed]), []);
  });

  test('DENY: only the HTTP part goes; what is left denies more, or nothing', () => {
    assert.deepEqual(rulesOf('DENY', [http]), [{ clauses: [[match({})]] }]);
    const mixed: Rules[number] = { to: [{ operation: { ports: ['80'], methods: ['GET'] } }] };
    assert.deepEqual(rulesOf('DENY', [mixed]), [{ clauses: [[match({ destinationPorts: [80] })]] }]);
    const sni: Rules[number] = {
      from: [{ source: { namespaces: ['a'] } }],
      when: [{ key: 'connection.sni', values: ['x'] }],
    };
    assert.deepEqual(rulesOf('DENY', [sni]), [
      { clauses: [[match({ namespaces: [exact('a')] })], [match({})]] },
    ]);
  });

  const attributes: [string, Rules[number]][] = [
    ['hosts', { to: [{ operation: { hosts: ['x'] } }] }],
    ['notHosts', { to: [{ operation: { notHosts: ['x'] } }] }],
    ['methods', { to: [{ operation: { methods: ['x'] } }] }],
    ['notMethods', { to: [{ operation: { notMethods: ['x'] } }] }],
    ['paths', { to: [{ operation: { paths: ['x'] } }] }],
    ['notPaths', { to: [{ operation: { notPaths: ['x'] } }] }],
    ['requestPrincipals', { from: [{ source: { requestPrincipals: ['x'] } }] }],
    ['notRequestPrincipals', { from: [{ source: { notRequestPrincipals: ['x'] } }] }],
    ['remoteIpBlocks', { from: [{ source: { remoteIpBlocks: ['x'] } }] }],
    ['notRemoteIpBlocks', { from: [{ source: { notRemoteIpBlocks: ['x'] } }] }],
    ['request.headers[x]', { when: [{ key: 'request.headers[x]', values: ['x'] }] }],
    ['remote.ip', { when: [{ key: 'remote.ip', values: ['10.0.0.1'] }] }],
    ['connection.sni', { when: [{ key: 'connection.sni', values: ['x'] }] }],
  ];
  for (const [attribute, rule] of attributes)
    test(`${attribute} is named and never widens an ALLOW`, () => {
      const conversion = convert({ action: 'ALLOW', rules: [rule] });
      assert.ok(conversion.kind === 'enforced');
      assert.deepEqual(conversion.unsupported, [attribute]);
      assert.deepEqual(conversion.policy.rules, []);
      assert.match(conversion.explain, /omitted/);
    });

  test('the explanation tells the three cases apart', () => {
    const say = (spec: Spec) => {
      const conversion = convert(spec);
      return conversion.explain;
    };
    assert.match(say({ action: 'DENY', rules: [http] }), /no effect without a waypoint/);
    assert.match(say({ action: 'DENY', rules: [http, plain] }), /may deny more than it says/);
    assert.match(say({ action: 'ALLOW', rules: [http] }), /rules that use them are omitted/);
    assert.equal(say({ action: 'ALLOW', rules: [plain] }), 'enforced by node proxies');
  });

  test('values that cannot be read never widen an ALLOW', () => {
    const source = (fields: object): Rules => [{ from: [{ source: { namespaces: ['a'], ...fields } }] }];
    assert.deepEqual(rulesOf('ALLOW', source({ ipBlocks: ['nonsense'] })), []);
    assert.deepEqual(rulesOf('ALLOW', source({ notIpBlocks: ['nonsense', '10.0.0.0/8'] })), []);
    assert.equal(rulesOf('ALLOW', source({ ipBlocks: ['nonsense', '10.0.0.0/8'] })).length, 1);
    assert.deepEqual(rulesOf('ALLOW', [{ to: [{ operation: { ports: ['http'] } }] }]), []);
    assert.deepEqual(rulesOf('ALLOW', [{ to: [{ operation: { notPorts: ['65536'] } }] }]), []);
  });
});

test('adding an HTTP attribute to an ALLOW rule never leaves more rules than before', () => {
  const l4 = fc.record({ ports: fc.option(fc.array(fc.constantFrom('80', '443', 'x')), { nil: undefined }) });
  fc.assert(
    fc.property(fc.array(l4, { maxLength: 4 }), fc.nat(3), (operations, at) => {
      const clean = (operation: { ports: string[] | undefined }) =>
        operation.ports === undefined ? {} : { ports: operation.ports };
      const rules: Rules = operations.map((operation) => ({ to: [{ operation: clean(operation) }] }));
      const withHttp: Rules = rules.map((rule, index) =>
        index === at ? { ...rule, when: [{ key: 'request.auth.audiences', values: ['x'] }] } : rule,
      );
      assert.ok(rulesOf('ALLOW', withHttp).length <= rulesOf('ALLOW', rules).length);
      assert.equal(rulesOf('DENY', withHttp).length, rules.length);
    }),
  );
});
