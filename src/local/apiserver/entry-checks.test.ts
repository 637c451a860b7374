// ServiceEntry and WorkloadEntry at the door: the definitions in deploy/crds refuse what Istio's refuse.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { loadCel } from './cel/engine.ts';
import type { JsonObject } from './object.ts';
import { makeRig, refused } from './test-rig.ts';

before(loadCel);

const HOSTS = { hosts: ['db.example.com'] };
const PORT = { number: 5432, name: 'tcp' };
const IP = { address: '192.0.2.1' };

const REFUSED: readonly [what: string, plural: string, spec: JsonObject, text: RegExp][] = [
  ['no hosts', 'serviceentries', { resolution: 'DNS' }, /spec\.hosts: Required value/],
  ['an empty list of hosts', 'serviceentries', { hosts: [] }, /spec\.hosts/],
  ['every host', 'serviceentries', { hosts: ['*'] }, /may not be every host/],
  [
    'endpoints and a selector',
    'serviceentries',
    { ...HOSTS, resolution: 'STATIC', endpoints: [IP], workloadSelector: { labels: { a: 'b' } } },
    /exclude each other/,
  ],
  [
    'a range with DNS',
    'serviceentries',
    { ...HOSTS, resolution: 'DNS', addresses: ['10.0.0.0/8'] },
    /ranges need the resolution NONE or STATIC/,
  ],
  ['endpoints without resolution', 'serviceentries', { ...HOSTS, endpoints: [IP] }, /other than NONE/],
  [
    'endpoints with NONE',
    'serviceentries',
    { ...HOSTS, resolution: 'NONE', endpoints: [IP] },
    /other than NONE/,
  ],
  [
    'two endpoints in turn',
    'serviceentries',
    { ...HOSTS, resolution: 'DNS_ROUND_ROBIN', endpoints: [IP, { address: '192.0.2.2' }] },
    /one endpoint at most/,
  ],
  ['an unknown resolution', 'serviceentries', { ...HOSTS, resolution: 'ANY' }, /Unsupported value: "ANY"/],
  ['port 0', 'serviceentries', { ...HOSTS, ports: [{ number: 0, name: 'a' }] }, /between 1 and 65535/],
  ['a port without name', 'serviceentries', { ...HOSTS, ports: [{ number: 80 }] }, /name: Required value/],
  [
    'a port number twice',
    'serviceentries',
    { ...HOSTS, ports: [PORT, { number: 5432, name: 'other' }] },
    /may stand once only/,
  ],
  [
    'a port name twice',
    'serviceentries',
    { ...HOSTS, ports: [PORT, { number: 5433, name: 'tcp' }] },
    /Duplicate value/,
  ],
  [
    'a wildcard in the selector',
    'serviceentries',
    { ...HOSTS, workloadSelector: { labels: { app: '*' } } },
    /takes no wildcards/,
  ],
  [
    'an endpoint from nowhere',
    'serviceentries',
    { ...HOSTS, resolution: 'STATIC', endpoints: [{ weight: 1 }] },
    /an address is needed/,
  ],
  ['an entry from nowhere', 'workloadentries', { weight: 1 }, /an address is needed/],
  ['a socket with ports', 'workloadentries', { address: 'unix:///run/x', ports: { a: 1 } }, /has no ports/],
  ['a relative socket', 'workloadentries', { address: 'unix://run/x' }, /absolute path/],
  ['a folder', 'workloadentries', { address: 'unix:///run/' }, /no folder/],
  ['a port too large', 'workloadentries', { ...IP, ports: { http: 65536 } }, /between 1 and 65535/],
  ['a port name with a dot', 'workloadentries', { ...IP, ports: { 'a.b': 1 } }, /letters, digits/],
];

for (const [what, plural, spec, text] of REFUSED)
  test(`${plural}: ${what} is refused`, () => {
    const rig = makeRig();
    assert.throws(() => rig.create(plural, { metadata: { name: 'x' }, spec }), refused(422, text));
  });

const TAKEN: readonly [what: string, plural: string, spec: JsonObject][] = [
  ['a range with STATIC', 'serviceentries', { ...HOSTS, resolution: 'STATIC', addresses: ['10.0.0.0/8'] }],
  ['a range without resolution', 'serviceentries', { ...HOSTS, addresses: ['10.0.0.0/8'], ports: [PORT] }],
  ['a wildcard below a name', 'serviceentries', { hosts: ['*.example.com'], resolution: 'DYNAMIC_DNS' }],
  [
    'endpoints',
    'serviceentries',
    { ...HOSTS, resolution: 'STATIC', endpoints: [{ ...IP, ports: { tcp: 5433 } }, { network: 'n2' }] },
  ],
  [
    'a selector',
    'serviceentries',
    { ...HOSTS, resolution: 'STATIC', workloadSelector: { labels: { a: 'b' } } },
  ],
  ['an address', 'workloadentries', { ...IP, ports: { 'tcp-1': 5433 }, locality: 'r/z/s', weight: 3 }],
  ['a socket', 'workloadentries', { address: 'unix:///run/x' }],
];

for (const [what, plural, spec] of TAKEN)
  test(`${plural}: ${what} is taken`, () => {
    const rig = makeRig();
    rig.create(plural, { metadata: { name: 'x' }, spec });
    assert.deepEqual(rig.get(plural, 'x')?.spec, spec);
  });

test('both kinds are served in all the versions that people write', () => {
  const rig = makeRig();
  for (const plural of ['serviceentries', 'workloadentries'])
    for (const version of ['v1', 'v1beta1', 'v1alpha3']) assert.ok(rig.kind(plural, version));
});
