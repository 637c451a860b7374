// ztunnel.md §8.2 and §8.3 row by row, and what must hold for any policies.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCidr } from '#net/cidr.ts';
import { ip } from '#net/ip.ts';
import { authorize, type ConnectionFacts } from './authorize.ts';
import type { SpiffeId } from './identity.ts';
import { matchOf, type Policy, type PolicyMatch, type PolicyRule, type StringMatch } from './policy.ts';
import { policyOf } from './samples.ts';

const CART = 'spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId;
const overTls: ConnectionFacts = {
  sourceIp: ip('10.0.0.1'),
  identity: CART,
  destination: { ip: ip('10.0.0.2'), port: 8080 },
};
const plaintext: ConnectionFacts = { ...overTls, identity: undefined };

const exact = (text: string): StringMatch => ({ kind: 'exact', text });
const prefix = (text: string): StringMatch => ({ kind: 'prefix', text });
const suffix = (text: string): StringMatch => ({ kind: 'suffix', text });
const presence: StringMatch = { kind: 'presence' };
const cidr = (text: string) => parseCidr(text)!;
const rule = (...clauses: PolicyMatch[][]): PolicyRule => ({ clauses });
const one = (fields: Partial<PolicyMatch>): PolicyRule => rule([matchOf(fields)]);

/** A DENY policy's match shows as a refusal, and nothing else refuses. */
const matches = (rules: readonly PolicyRule[], facts: ConnectionFacts): boolean =>
  authorize([policyOf({ action: 'Deny', rules })], facts).verdict === 'deny';

// what, match, over mTLS as cart, in plaintext
const FIELDS: readonly [string, Partial<PolicyMatch>, boolean, boolean][] = [
  ['namespace exact', { namespaces: [exact('shop')] }, true, false],
  ['namespace exact, other', { namespaces: [exact('shop2')] }, false, false],
  ['namespace exact, other case', { namespaces: [exact('Shop')] }, false, false],
  ['namespace prefix', { namespaces: [prefix('sh')] }, true, false],
  ['namespace suffix', { namespaces: [suffix('op')] }, true, false],
  ['a star is an ordinary letter', { namespaces: [exact('sh*')] }, false, false],
  ['namespace presence', { namespaces: [presence] }, true, false],
  ['empty prefix of a namespace matches plaintext too', { namespaces: [prefix('')] }, true, true],
  ['empty suffix of a namespace matches plaintext too', { namespaces: [suffix('')] }, true, true],
  ['exactly the empty namespace is plaintext', { namespaces: [exact('')] }, false, true],
  ['one of several namespaces', { namespaces: [exact('x'), exact('shop')] }, true, false],
  ['not namespace', { notNamespaces: [exact('shop')] }, false, true],
  ['not namespace, other', { notNamespaces: [exact('other')] }, true, true],
  ['not any namespace', { notNamespaces: [presence] }, false, true],
  ['none of several namespaces', { notNamespaces: [exact('x'), exact('shop')] }, false, true],
  ['principal exact', { principals: [exact('cluster.local/ns/shop/sa/cart')] }, true, false],
  ['principal with scheme', { principals: [exact('spiffe://cluster.local/ns/shop/sa/cart')] }, false, false],
  ['principal prefix', { principals: [prefix('cluster.local/ns/shop/')] }, true, false],
  ['principal suffix', { principals: [suffix('/sa/cart')] }, true, false],
  ['principal presence', { principals: [presence] }, true, false],
  ['empty prefix of a principal does not match plaintext', { principals: [prefix('')] }, true, false],
  ['not principal', { notPrincipals: [exact('cluster.local/ns/shop/sa/cart')] }, false, true],
  ['no principal at all (STRICT)', { notPrincipals: [presence] }, false, true],
  ['service account', { serviceAccounts: [{ namespace: 'shop', serviceAccount: 'cart' }] }, true, false],
  [
    'service account elsewhere',
    { serviceAccounts: [{ namespace: 'x', serviceAccount: 'cart' }] },
    false,
    false,
  ],
  ['empty service account', { serviceAccounts: [{ namespace: '', serviceAccount: '' }] }, false, false],
  [
    'not service account',
    { notServiceAccounts: [{ namespace: 'shop', serviceAccount: 'cart' }] },
    false,
    true,
  ],
  ['source range', { sourceIps: [cidr('10.0.0.0/24')] }, true, true],
  ['source range, other', { sourceIps: [cidr('10.0.1.0/24')] }, false, false],
  ['source range of the other family', { sourceIps: [cidr('::/0')] }, false, false],
  ['not source range', { notSourceIps: [cidr('10.0.0.0/24')] }, false, false],
  ['everything', { sourceIps: [cidr('0.0.0.0/0')] }, true, true],
  ['destination address', { destinationIps: [cidr('10.0.0.2')] }, true, true],
  ['not destination address', { notDestinationIps: [cidr('10.0.0.2')] }, false, false],
  ['destination port', { destinationPorts: [80, 8080] }, true, true],
  ['destination port, other', { destinationPorts: [80] }, false, false],
  ['not destination port', { notDestinationPorts: [8080] }, false, false],
  ['not destination port, other', { notDestinationPorts: [80] }, true, true],
  ['kinds are ANDed', { namespaces: [exact('shop')], destinationPorts: [80] }, false, false],
  ['all kinds hold', { namespaces: [exact('shop')], destinationPorts: [8080] }, true, false],
  [
    'positive and negative are ANDed',
    { namespaces: [presence], notNamespaces: [exact('shop')] },
    false,
    false,
  ],
  ['positive and another negative', { namespaces: [presence], notNamespaces: [exact('x')] }, true, false],
  ['a match with every field empty', {}, false, false],
];
for (const [what, match, tls, plain] of FIELDS) {
  test(`${what}: ${tls ? 'matches' : 'does not match'} mTLS, ${plain ? 'matches' : 'does not match'} plaintext`, () => {
    assert.equal(matches([one(match)], overTls), tls);
    assert.equal(matches([one(match)], plaintext), plain);
  });
}

const yes = matchOf({ destinationPorts: [8080] });
const no = matchOf({ destinationPorts: [1] });
const LEVELS: readonly [string, readonly PolicyRule[], boolean][] = [
  ['no rules never match', [], false],
  ['a rule without clauses matches everything', [rule()], true],
  ['a clause without matches is true', [rule([])], true],
  ['an empty clause beside one that holds', [rule([], [yes])], true],
  ['an empty clause beside one that fails', [rule([], [no])], false],
  ['clauses are ANDed', [rule([yes], [no])], false],
  ['both clauses hold', [rule([yes], [yes])], true],
  ['matches of a clause are ORed', [rule([no, yes])], true],
  ['an empty match beside one that holds', [rule([matchOf(), yes])], true],
  ['an empty match alone', [rule([matchOf()])], false],
  ['rules are ORed', [rule([no]), rule([yes])], true],
  ['no rule holds', [rule([no]), rule([no])], false],
];
for (const [what, rules, expected] of LEVELS)
  test(what, () => assert.equal(matches(rules, overTls), expected));

const deny = (name: string, rules: readonly PolicyRule[], dryRun = false): Policy =>
  policyOf({ namespace: 'shop', name, action: 'Deny', rules, dryRun });
const allow = (name: string, rules: readonly PolicyRule[], dryRun = false): Policy =>
  policyOf({ namespace: 'shop', name, action: 'Allow', rules, dryRun });
const always = [rule()];

test('no policy allows', () => {
  const verdict = authorize([], overTls);
  assert.equal(verdict.verdict, 'allow');
  assert.equal(verdict.reason, 'no-allow-policy');
});

test('DENY comes before ALLOW, and is named with its rule', () => {
  const verdict = authorize(
    [
      allow('all', always),
      deny('ports', [one({ destinationPorts: [1] }), one({ destinationPorts: [8080] })]),
    ],
    overTls,
  );
  assert.deepEqual(verdict, {
    verdict: 'deny',
    reason: 'denied-by-policy',
    policy: 'shop/ports',
    rule: 1,
    explain: 'explicitly denied by: shop/ports (rule 1: destination port 8080)',
    dryRun: [],
  });
});

test('a DENY that does not match leaves the decision to the ALLOWs', () => {
  const other = deny('other', [one({ destinationPorts: [1] })]);
  assert.equal(authorize([other], overTls).verdict, 'allow');
  const verdict = authorize([other, allow('all', always)], overTls);
  assert.equal(verdict.reason, 'allowed-by-policy');
  assert.equal(verdict.policy, 'shop/all');
});

test('an ALLOW without rules refuses all', () => {
  const verdict = authorize([allow('nothing', [])], overTls);
  assert.deepEqual(verdict, {
    verdict: 'deny',
    reason: 'no-allow-matched',
    policy: 'shop/nothing',
    explain: 'allow policies exist, but none allowed: shop/nothing has no rule that could match',
    dryRun: [],
  });
});

test('a refusal names the ALLOW rule that came closest, the clause and what failed', () => {
  const verdict = authorize(
    [
      allow('far', [one({ namespaces: [exact('bank')] })]),
      allow('near', [
        rule(
          [matchOf({ destinationPorts: [8080] })],
          [matchOf({ principals: [exact('cluster.local/ns/shop/sa/web'), prefix('cluster.local/ns/ops/')] })],
        ),
      ]),
    ],
    overTls,
  );
  assert.deepEqual(verdict, {
    verdict: 'deny',
    reason: 'no-allow-matched',
    policy: 'shop/near',
    rule: 0,
    clause: 1,
    explain:
      'allow policies exist, but none allowed: closest is shop/near rule 0, clause 1: source principal ' +
      '"cluster.local/ns/shop/sa/cart" is not in ["cluster.local/ns/shop/sa/web", "cluster.local/ns/ops/*"]',
    dryRun: [],
  });
});

test('a refusal in plaintext says so', () => {
  const verdict = authorize([allow('members', [one({ principals: [presence] })])], plaintext);
  assert.match(verdict.explain, /source principal none \(plaintext\) is not in \[any\]$/);
  const excluded = authorize([allow('x', [one({ notSourceIps: [cidr('10.0.0.0/8')] })])], plaintext);
  assert.match(excluded.explain, /source address 10\.0\.0\.1 is excluded by \[10\.0\.0\.0\/8\]$/);
  const empty = authorize([allow('x', [one({})])], plaintext);
  assert.match(empty.explain, /an empty match never matches$/);
});

test('dry-run policies decide nothing and are noted', () => {
  const verdict = authorize([deny('dry', always, true)], overTls);
  assert.equal(verdict.verdict, 'allow');
  assert.deepEqual(
    verdict.dryRun.map(({ policy }) => policy),
    ['shop/dry'],
  );
  assert.equal(authorize([deny('dry', [], true)], overTls).dryRun.length, 0);
});

test('a dry-run ALLOW that would refuse is noted only when no enforced ALLOW exists', () => {
  const wouldRefuse = allow('dry', [], true);
  const alone = authorize([wouldRefuse], overTls);
  assert.equal(alone.verdict, 'allow');
  assert.match(alone.dryRun[0]?.explain ?? '', /would be denied/);
  assert.equal(authorize([wouldRefuse, allow('real', always)], overTls).dryRun.length, 0);
  const wouldAllow = authorize([allow('dry', always, true)], overTls);
  assert.match(wouldAllow.dryRun[0]?.explain ?? '', /would allow/);
});

const stringMatch = fc.oneof(
  fc.constantFrom(exact('shop'), exact(''), prefix(''), suffix(''), prefix('s'), presence, exact('x')),
  fc.constantFrom(exact('cluster.local/ns/shop/sa/cart'), prefix('cluster.local/'), suffix('/cart')),
);
const some = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(value, { maxLength: 2 });
const range = fc.constantFrom('10.0.0.0/24', '10.0.0.2', '0.0.0.0/0', '::/0', '192.0.2.0/24').map(cidr);
const account = fc.constantFrom(
  { namespace: 'shop', serviceAccount: 'cart' },
  { namespace: 'shop', serviceAccount: 'web' },
);
const port = fc.constantFrom(80, 8080);
const match = fc.record({
  namespaces: some(stringMatch),
  notNamespaces: some(stringMatch),
  serviceAccounts: some(account),
  notServiceAccounts: some(account),
  principals: some(stringMatch),
  notPrincipals: some(stringMatch),
  sourceIps: some(range),
  notSourceIps: some(range),
  destinationIps: some(range),
  notDestinationIps: some(range),
  destinationPorts: some(port),
  notDestinationPorts: some(port),
});
const policy: fc.Arbitrary<Policy> = fc.record({
  name: fc.constantFrom('a', 'b', 'c'),
  namespace: fc.constant('shop'),
  scope: fc.constant('Namespace'),
  action: fc.constantFrom('Allow', 'Deny'),
  rules: some(fc.record({ clauses: some(some(match)) })),
  dryRun: fc.boolean(),
});
const policies = fc.array(policy, { maxLength: 4 });
const facts = fc.constantFrom(overTls, plaintext);

test('adding a DENY never turns a refusal into an admission', () => {
  fc.assert(
    fc.property(policies, policy, facts, (before, added, connection) => {
      const denying: Policy = { ...added, action: 'Deny' };
      if (authorize(before, connection).verdict === 'deny')
        assert.equal(authorize([...before, denying], connection).verdict, 'deny');
    }),
  );
});

test('adding a rule to an ALLOW never turns an admission into a refusal', () => {
  fc.assert(
    fc.property(policies, policy, facts, (others, extra, connection) => {
      const base = allow('base', []);
      if (authorize([...others, base], connection).verdict === 'allow')
        assert.equal(authorize([...others, { ...base, rules: extra.rules }], connection).verdict, 'allow');
    }),
  );
});

test('dry-run policies never change the verdict', () => {
  fc.assert(
    fc.property(policies, policies, facts, (enforced, dry, connection) => {
      const all = [...enforced, ...dry.map((each) => ({ ...each, dryRun: true }))];
      assert.equal(authorize(all, connection).verdict, authorize(enforced, connection).verdict);
    }),
  );
});

test('the order of policies does not change the verdict, and every refusal explains itself', () => {
  fc.assert(
    fc.property(policies, facts, (all, connection) => {
      const verdict = authorize(all, connection);
      assert.equal(authorize([...all].reverse(), connection).verdict, verdict.verdict);
      assert.ok(verdict.explain.length > 0);
      if (verdict.reason === 'denied-by-policy') {
        const named = all.filter((each) => `shop/${each.name}` === verdict.policy && each.action === 'Deny');
        assert.ok(named.some((each) => each.rules[verdict.rule!] !== undefined));
      }
    }),
  );
});

test('a single negated value is the opposite of the positive one, except for plaintext’s absent identity', () => {
  const pairs: readonly [keyof PolicyMatch, keyof PolicyMatch, fc.Arbitrary<unknown>][] = [
    ['namespaces', 'notNamespaces', stringMatch],
    ['serviceAccounts', 'notServiceAccounts', account],
    ['principals', 'notPrincipals', stringMatch],
    ['sourceIps', 'notSourceIps', range],
    ['destinationIps', 'notDestinationIps', range],
    ['destinationPorts', 'notDestinationPorts', port],
  ];
  for (const [positive, negative, values] of pairs) {
    fc.assert(
      fc.property(values, facts, (value, connection) => {
        const holds = matches([one({ [positive]: [value] })], connection);
        assert.equal(matches([one({ [negative]: [value] })], connection), !holds);
      }),
    );
  }
});
