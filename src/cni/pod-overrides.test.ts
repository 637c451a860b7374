import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { podRuleOptions } from './pod-overrides.ts';
import { renderPodRules } from './rules/nft.ts';

const DEFAULTS = { dnsCapture: true, ipv6: false };
const BYPASS = 'ambient.istio.io/bypass-inbound-capture';
const DNS = 'ambient.istio.io/dns-capture';
const INTERFACES = 'istio.io/reroute-virtual-interfaces';

test('annotations override the defaults', () => {
  assert.deepEqual(podRuleOptions(undefined, DEFAULTS), {
    options: { ipv6: false, dnsCapture: true, bypassInbound: false, virtualInterfaces: [] },
    ignored: [],
  });
  assert.deepEqual(
    podRuleOptions({ [BYPASS]: 'T', [DNS]: 'false', [INTERFACES]: ' tap0 ,,br-1.2' }, DEFAULTS).options,
    { ipv6: false, dnsCapture: false, bypassInbound: true, virtualInterfaces: ['tap0', 'br-1.2'] },
  );
});

test('what cannot be read is told and ignored', () => {
  const { options, ignored } = podRuleOptions(
    { [BYPASS]: 'yes', [INTERFACES]: 'eth0", "x,averyveryverylongname,ok0' },
    DEFAULTS,
  );
  assert.equal(options.bypassInbound, false);
  assert.deepEqual(options.virtualInterfaces, ['ok0']);
  assert.equal(ignored.length, 4);
});

test('property: no annotation can add a line to the ruleset', () => {
  const plainLines = renderPodRules(podRuleOptions(undefined, DEFAULTS).options).split('\n').length;
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const { options } = podRuleOptions({ [INTERFACES]: text }, DEFAULTS);
      const lines = renderPodRules(options).split('\n');
      assert.equal(lines.length, plainLines + 2 * options.virtualInterfaces.length);
      for (const name of options.virtualInterfaces) assert.match(name, /^[^"\s{};]+$/);
    }),
  );
});
