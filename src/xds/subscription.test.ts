// Which requests are answered and with what: control-plane.md §4.2–4.5, row by row.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type DeltaRequest, deltaRequest } from '#proto/discovery.ts';
import { SharedSource } from './shared-source.ts';
import { nodeKey, type ResourceSource, type XdsResource } from './source.ts';
import { Subscription } from './subscription.ts';

const TYPE = 'type.googleapis.com/test';

function sourceOf(
  versions: Readonly<Record<string, string>>,
): ResourceSource & { versions: Record<string, string> } {
  const held: Record<string, string> = { ...versions };
  const get = (name: string): XdsResource | undefined => {
    const version = held[name];
    return version === undefined ? undefined : { name, version, bytes: Uint8Array.of(1) };
  };
  return {
    typeUrl: TYPE,
    versions: held,
    list: () => Object.keys(held).map((name) => get(name)!),
    get,
    onChange: () => () => {},
  };
}

const AT = new Date(0);
const subscriptionTo = (source: ResourceSource): Subscription =>
  new Subscription(new SharedSource(source), () => AT);

const request = (fields: Partial<DeltaRequest> = {}): DeltaRequest => deltaRequest(TYPE, fields);
const held = (versions: Readonly<Record<string, string>>): Partial<DeltaRequest> => ({
  initialResourceVersions: new Map(Object.entries(versions)),
});

/** Names sent and removed by the next response, or undefined when there is none. */
function next(subscription: Subscription, nonce = 'n'): [sent: string[], removed: string[]] | undefined {
  const delta = subscription.take();
  if (delta === undefined) return undefined;
  subscription.sent(nonce);
  return [delta.resources.map(({ name }) => name).sort(), [...delta.removed].sort()];
}

test('nothing is sent before the first request', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1' }));
  subscription.onChange(new Set(['a']));
  assert.equal(next(subscription), undefined);
});

test('the first request is answered, even with nothing', () => {
  const subscription = subscriptionTo(sourceOf({}));
  assert.equal(subscription.onRequest(request()), 'respond');
  assert.deepEqual(next(subscription), [[], []]);
  assert.equal(next(subscription), undefined);
});

test('a wildcard gets all, then what changed', () => {
  const source = sourceOf({ a: '1', b: '1' });
  const subscription = subscriptionTo(source);
  subscription.onRequest(request());
  assert.deepEqual(next(subscription, 'n1'), [['a', 'b'], []]);
  assert.equal(subscription.onRequest(request({ responseNonce: 'n1' })), 'ack');
  assert.equal(next(subscription), undefined);
  source.versions.c = '1';
  delete source.versions.a;
  subscription.onChange(new Set(['c']));
  subscription.onChange(new Set(['a', 'c']));
  assert.deepEqual(next(subscription), [['c'], ['a']]);
});

test('initial versions: the same version is skipped, another sent, a vanished name removed', () => {
  const subscription = subscriptionTo(sourceOf({ same: '1', other: '2', fresh: '1', unversioned: '' }));
  subscription.onRequest(request(held({ same: '1', other: '1', ghost: '9', unversioned: '' })));
  assert.deepEqual(next(subscription), [['fresh', 'other', 'unversioned'], ['ghost']]);
  assert.equal(subscription.info().wildcard, true);
});

test('a change before the first answer is in it, not sent twice', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1' }));
  subscription.onRequest(request());
  subscription.onChange(new Set(['a']));
  assert.deepEqual(next(subscription), [['a'], []]);
  assert.equal(next(subscription), undefined);
});

test('stale, spontaneous and refused requests', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1' }));
  subscription.onRequest(request());
  next(subscription, 'n1');
  assert.equal(subscription.onRequest(request({ responseNonce: 'n0' })), 'stale');
  assert.equal(subscription.onRequest(request()), 'nothing');
  const error = { code: 0, message: 'a: bad' };
  assert.equal(subscription.onRequest(request({ responseNonce: 'n1', error })), 'nack');
  assert.deepEqual(subscription.info().rejected, { nonce: 'n1', code: 0, message: 'a: bad', at: AT });
  assert.equal(subscription.info().ackedNonce, '');
  assert.equal(next(subscription), undefined);
  assert.equal(subscription.onRequest(request({ responseNonce: 'n1' })), 'ack');
  assert.equal(subscription.info().rejected, undefined);
});

test('names asked for by a wildcard subscriber mean everything again, without skipping', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1', b: '1' }));
  subscription.onRequest(request(held({ a: '1', b: '1' })));
  assert.deepEqual(next(subscription), [[], []]);
  assert.equal(subscription.onRequest(request({ subscribe: ['a', 'none'] })), 'respond');
  assert.deepEqual(next(subscription), [['a', 'b'], ['none']]);
});

test('a star both subscribed and unsubscribed is a subscription to nothing', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1' }));
  subscription.onRequest(request({ subscribe: ['*'], unsubscribe: ['*'] }));
  assert.deepEqual(next(subscription), [[], []]);
  assert.equal(subscription.info().wildcard, false);
  subscription.onChange(new Set(['a']));
  assert.equal(next(subscription), undefined);
});

test('a star among names is a wildcard', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1', b: '1' }));
  subscription.onRequest(request({ subscribe: ['*', 'gone'] }));
  assert.deepEqual(next(subscription), [['a', 'b'], ['gone']]);
});

test('on demand: what is asked for, what is not there, and changes of those only', () => {
  const source = sourceOf({ a: '1', b: '1' });
  const subscription = subscriptionTo(source);
  subscription.onRequest(request({ subscribe: ['a', 'none'] }));
  assert.deepEqual(next(subscription, 'n1'), [['a'], ['none']]);
  subscription.onChange(new Set(['a', 'b']));
  assert.deepEqual(next(subscription, 'n2'), [['a'], []]);
  assert.equal(subscription.onRequest(request({ responseNonce: 'n2', subscribe: ['b'] })), 'respond');
  assert.deepEqual(next(subscription), [['b'], []]);
  assert.equal(subscription.onRequest(request({ unsubscribe: ['a'] })), 'respond');
  assert.deepEqual(next(subscription), [[], []]);
  subscription.onChange(new Set(['a']));
  assert.equal(next(subscription), undefined);
  source.versions.none = '1';
  subscription.onChange(new Set(['none']));
  assert.deepEqual(next(subscription), [['none'], []]);
});

test('on demand by alias: the resources it means, followed by name', () => {
  const source = sourceOf({ 'shop/cart': '1' });
  const aliased: ResourceSource = {
    ...source,
    resolve: (key) => (key === '/10.0.0.1' ? [source.get('shop/cart')!] : []),
  };
  const subscription = subscriptionTo(aliased);
  subscription.onRequest(request({ subscribe: ['/10.0.0.1', '/10.0.0.2'] }));
  assert.deepEqual(next(subscription), [['shop/cart'], ['/10.0.0.2']]);
  subscription.onChange(new Set(['shop/cart']));
  assert.deepEqual(next(subscription), [['shop/cart'], []]);
});

test('a client that applies whatever it is sent, whenever it can take it, ends with the source’s state', () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd');
  const step = fc.oneof(
    fc.record({ kind: fc.constant('put' as const), name }),
    fc.record({ kind: fc.constant('delete' as const), name }),
    fc.constant({ kind: 'take' as const }),
    fc.constant({ kind: 'reconnect' as const }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const source = sourceOf({});
      const client = new Map<string, string>();
      let subscription = subscriptionTo(source);
      subscription.onRequest(request());
      let version = 0;
      const take = (): void => {
        const delta = subscription.take();
        if (delta === undefined) return;
        for (const gone of delta.removed) client.delete(gone);
        for (const resource of delta.resources) client.set(resource.name, resource.version);
      };
      for (const at of steps) {
        if (at.kind === 'take') take();
        else if (at.kind === 'reconnect') {
          subscription = subscriptionTo(source);
          subscription.onRequest(request({ initialResourceVersions: new Map(client) }));
        } else {
          if (at.kind === 'put') source.versions[at.name] = `v${++version}`;
          else delete source.versions[at.name];
          subscription.onChange(new Set([at.name]));
        }
      }
      take();
      assert.deepEqual(Object.fromEntries(client), source.versions);
      assert.equal(subscription.pending, 0);
    }),
  );
});

test('on demand: a workload follows its service and its node, and its address is another name for it', () => {
  const keys: Readonly<Record<string, Pick<XdsResource, 'aliases' | 'follows'>>> = {
    'shop/web': { aliases: ['/10.96.0.1'] },
    web1: { aliases: ['/10.0.0.1'], follows: ['shop/web', nodeKey('n1')] },
    web2: { aliases: ['/10.0.0.2'], follows: ['shop/web', nodeKey('n2')] },
    other: { aliases: ['/10.0.0.3'], follows: [nodeKey('n2')] },
  };
  const plain = sourceOf({ 'shop/web': '1', web1: '1', web2: '1', other: '1' });
  const get = (name: string): XdsResource | undefined => {
    const resource = plain.get(name);
    return resource && { ...resource, ...keys[name] };
  };
  const source: ResourceSource = {
    ...plain,
    get,
    *resolve(key) {
      for (const name of Object.keys(plain.versions)) {
        const { aliases = [], follows = [] } = keys[name]!;
        if (name === key || aliases.includes(key) || follows.includes(key)) yield get(name)!;
      }
    },
  };
  const subscription = subscriptionTo(source);
  const node = { id: 'zt', metadata: { NODE_NAME: 'n1' } };
  subscription.onRequest(request({ node, subscribe: ['*'], unsubscribe: ['*'] }));
  assert.deepEqual(next(subscription), [['web1'], []]);
  subscription.onChange(new Set(['web2', 'other']));
  assert.equal(next(subscription), undefined);
  subscription.onRequest(request({ subscribe: ['shop/web', '/10.0.0.9'] }));
  const delta = subscription.take();
  assert.deepEqual(delta?.resources.map(({ name, aliases }) => [name, aliases]).sort(), [
    ['shop/web', ['/10.96.0.1']],
    ['web1', ['/10.0.0.1']],
    ['web2', ['/10.0.0.2']],
  ]);
  assert.deepEqual(delta?.removed, ['/10.0.0.9']);
  subscription.onChange(new Set(['web2', 'other']));
  assert.deepEqual(next(subscription), [['web2'], []]);
  delete plain.versions.web2;
  subscription.onChange(new Set(['web2']));
  assert.deepEqual(next(subscription), [[], ['web2']]);
});

test('on demand: a client that came back is not sent again what it holds', () => {
  const subscription = subscriptionTo(sourceOf({ a: '1', b: '2' }));
  subscription.onRequest(
    request({ subscribe: ['*'], unsubscribe: ['*'], ...held({ a: '1', b: '1', ghost: '1', wanted: '' }) }),
  );
  assert.deepEqual(next(subscription), [['b'], ['ghost', 'wanted']]);
});

test('what a client is to have: all, or what its names mean, each once and as it is now', () => {
  const source = sourceOf({ a: '1', b: '1', c: '1' });
  // `b` and `c` follow `a`; the type carries nothing of `c`.
  const resolved: ResourceSource = {
    ...source,
    resolve: (key) => (key === 'a' ? ['a', 'b', 'c'] : [key]).flatMap((name) => source.get(name) ?? []),
    carry: ({ name }) => (name === 'c' ? undefined : Uint8Array.of(7)),
  };
  const resources = (subscription: Subscription) =>
    [...subscription.resources()].map(({ name, version, bytes }) => [name, version, ...bytes]);
  const everything = subscriptionTo(resolved);
  assert.deepEqual(resources(everything), []);
  everything.onRequest(request());
  assert.deepEqual(resources(everything), [
    ['a', '1', 7],
    ['b', '1', 7],
  ]);
  const some = subscriptionTo(resolved);
  some.onRequest(request({ subscribe: ['a', 'nothing'] }));
  next(some, 'n1');
  source.versions.b = '2';
  assert.deepEqual(resources(some), [
    ['a', '1', 7],
    ['b', '2', 7],
  ]);
  some.onRequest(request({ responseNonce: 'n1', subscribe: ['b'], unsubscribe: ['a'] }));
  assert.deepEqual(resources(some), [['b', '2', 7]]);
});
