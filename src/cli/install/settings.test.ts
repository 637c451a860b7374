import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { parseSettings, SETTABLE_ENV } from './settings.ts';

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof MeshError && error.code === 'CONFIG_INVALID' && pattern.test(error.message);

test('without settings: profile ambient, programs of this machine', () => {
  const settings = parseSettings([]);
  assert.equal(settings.profile, 'ambient');
  assert.equal(settings.image, undefined);
  assert.equal(settings.env.istiod.size, 0);
});

test('a later setting wins, and values. before a key means the same', () => {
  const settings = parseSettings([
    'profile=minimal',
    'profile=ambient',
    'values.ztunnel.logLevel=debug',
    'values.pilot.env.PILOT_DEBOUNCE_AFTER=50ms',
    'meshConfig.trustDomain=example.org',
    'cni.excludeNamespaces={kube-system,build}',
    'cni.ambient.dnsCapture=false',
  ]);
  assert.equal(settings.profile, 'ambient');
  assert.equal(settings.env.ztunnel.get('RUST_LOG'), 'debug');
  assert.equal(settings.env.istiod.get('PILOT_DEBOUNCE_AFTER'), '50ms');
  assert.equal(settings.env.istiod.get('TRUST_DOMAIN'), 'example.org');
  assert.equal(settings.env['istio-cni'].get('EXCLUDE_NAMESPACES'), 'kube-system,build');
  assert.equal(settings.env['istio-cni'].get('AMBIENT_DNS_CAPTURE'), 'false');
});

test('the image: whole, or of hub and tag, never both', () => {
  assert.equal(parseSettings([], 'r.example/c:1').image, 'r.example/c:1');
  assert.equal(parseSettings(['hub=r.example/x', 'values.global.tag=1.2']).image, 'r.example/x/culvert:1.2');
  assert.throws(() => parseSettings(['hub=r.example']), refused(/belong together/));
  assert.throws(() => parseSettings(['tag=1'], 'r/c:1'), refused(/leave hub and tag out/));
});

test('what cannot be set is refused: misspelt with a suggestion, absent with the reason', () => {
  const cases: readonly [string, RegExp][] = [
    ['profle=ambient', /did you mean profile\?/],
    ['values.ztunel.logLevel=debug', /did you mean ztunnel\.logLevel\?/],
    ['pilot.env.PILOT_DEBOUNCE=1s', /did you mean pilot\.env\.PILOT_DEBOUNCE_MAX\?|PILOT_DEBOUNCE_AFTER\?/],
    ['something.else.entirely=1', /no such setting \(/],
    ['profile=demo', /ambient .*minimal/],
    ['profile=ambiant', /did you mean ambient\?/],
    ['profile', /KEY=VALUE/],
    ['=x', /KEY=VALUE/],
    ['meshConfig.accessLogFile=/dev/stdout', /only trustDomain/],
    ['values.pilot.replicaCount=3', /one replica/],
    ['components.cni.enabled=true', /profile/],
    ['revision=canary', /revisions/],
    ['ztunnel.logLevel=loud', /debug, info, warn, error/],
    ['global.logAsJson=yes', /true, false/],
    ['ztunnel.terminationGracePeriodSeconds=0', /seconds/],
    ['cni.cniBinDir=opt/bin', /absolute path/],
    ['meshConfig.trustDomain=a b', /no valid name/],
    ['hub=', /empty/],
    ['toString=1', /no such setting/],
  ];
  for (const [pair, pattern] of cases) assert.throws(() => parseSettings([pair]), refused(pattern), pair);
});

test('every environment variable that can be set is documented', () => {
  const docs = ['CONFIG.md', 'CNI.md']
    .map((name) => readFileSync(join(import.meta.dirname, '../../../docs', name), 'utf8'))
    .join('\n');
  // The page abbreviates the family of the root's settings.
  const missing = Object.values(SETTABLE_ENV)
    .flat()
    .filter((name) => !docs.includes(`\`${name}\``));
  assert.deepEqual(missing, []);
});
