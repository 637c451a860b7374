// Security policies fail closed at the door: what is misspelt or cannot mean what it says is refused.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { loadCel } from './cel/engine.ts';
import type { JsonObject } from './object.ts';
import { updateObject } from './objects.ts';
import { mergePatch } from './patch.ts';
import { StatusError } from './status.ts';
import { makeRig, refused } from './test-rig.ts';

// The definitions have rules; the server loads their evaluator before such a write.
before(loadCel);

const policy = (spec: JsonObject): JsonObject => ({ metadata: { name: 'p' }, spec });
const SOURCE = { source: { principals: ['cluster.local/ns/shop/sa/web'] } };

const UNKNOWN: readonly [what: string, object: JsonObject, path: string][] = [
  ['rule for rules', policy({ rule: [{}] }), 'spec.rule'],
  ['form for from', policy({ rules: [{ form: [SOURCE] }] }), 'spec.rules[0].form'],
  ['source outside from', policy({ rules: [SOURCE] }), 'spec.rules[0].source'],
  [
    'principal for principals',
    policy({ rules: [{ from: [{ source: { principal: ['x'] } }] }] }),
    'spec.rules[0].from[0].source.principal',
  ],
  [
    'Ports for ports',
    policy({ rules: [{ to: [{ operation: { Ports: ['80'] } }] }] }),
    'spec.rules[0].to[0].operation.Ports',
  ],
  ['selectors for selector', policy({ selectors: {} }), 'spec.selectors'],
  ['matchlabels', policy({ selector: { matchlabels: { a: 'b' } } }), 'spec.selector.matchlabels'],
  ['spce for spec', { metadata: { name: 'p' }, spce: {} }, 'spce'],
  ['a misspelt namespace', { metadata: { name: 'p', namespce: 'x' }, spec: {} }, 'metadata.namespce'],
];

for (const [what, object, path] of UNKNOWN)
  test(`AuthorizationPolicy: ${what} is refused even when the request says Ignore`, () => {
    const rig = makeRig();
    assert.throws(
      () => rig.create('authorizationpolicies', object, { fieldValidation: 'Ignore' }),
      (error: unknown) => {
        assert.ok(error instanceof StatusError);
        assert.equal(error.body.code, 400);
        assert.ok(error.message.endsWith(`unknown field ${JSON.stringify(path)}`), error.message);
        return true;
      },
    );
  });

const INVALID: readonly [what: string, plural: string, spec: JsonObject, text: RegExp][] = [
  [
    'a wrong action',
    'authorizationpolicies',
    { action: 'ALOW' },
    /spec\.action: Unsupported value: "ALOW": supported values: "ALLOW", "DENY", "AUDIT", "CUSTOM"/,
  ],
  [
    'a wrong type',
    'authorizationpolicies',
    { rules: {} },
    /spec\.rules: Invalid value: "object": spec\.rules in body must be of type array: "object"/,
  ],
  [
    'ports as numbers',
    'authorizationpolicies',
    { rules: [{ to: [{ operation: { ports: [80] } }] }] },
    /ports\[0\] in body must be of type string: "integer"/,
  ],
  ['rules of null', 'authorizationpolicies', { rules: null }, /must be of type array: "null"/],
  [
    'a port by name',
    'authorizationpolicies',
    { rules: [{ to: [{ operation: { ports: ['http'] } }] }] },
    /ports\[0\]: Invalid value: "http": must be a port number/,
  ],
  [
    'an address that is none',
    'authorizationpolicies',
    { rules: [{ from: [{ source: { ipBlocks: ['10.0.0/8'] } }] }] },
    /must be an IP address or a range/,
  ],
  [
    'an empty from',
    'authorizationpolicies',
    { rules: [{ from: [] }] },
    /spec\.rules\[0\]\.from: Required value: an empty list would match everything/,
  ],
  [
    'an empty source',
    'authorizationpolicies',
    { rules: [{ from: [{ source: {} }] }] },
    /source: Required value: at least one field must be set/,
  ],
  ['a missing source', 'authorizationpolicies', { rules: [{ from: [{}] }] }, /source: Required value/],
  [
    'an empty list of values',
    'authorizationpolicies',
    { rules: [{ from: [{ source: { principals: [] } }] }] },
    /principals: Required value: an empty list matches nothing/,
  ],
  [
    'DENY without rules',
    'authorizationpolicies',
    { action: 'DENY' },
    /spec\.rules: Required value: a DENY policy without rules/,
  ],
  [
    'CUSTOM without provider',
    'authorizationpolicies',
    { action: 'CUSTOM', rules: [{}] },
    /spec\.provider\.name: Required value/,
  ],
  [
    'a condition without values',
    'authorizationpolicies',
    { rules: [{ when: [{ key: 'source.ip' }] }] },
    /values or notValues must be set/,
  ],
  [
    'a condition without key',
    'authorizationpolicies',
    { rules: [{ when: [{ values: ['x'] }] }] },
    /spec\.rules\[0\]\.when\[0\]\.key: Required value/,
  ],
  [
    'selector and target',
    'authorizationpolicies',
    { selector: {}, targetRefs: [{ kind: 'Service', name: 'x' }] },
    /only one of selector, targetRef and targetRefs can be set/,
  ],
  [
    'a wrong mode',
    'peerauthentications',
    { mtls: { mode: 'STRCT' } },
    /spec\.mtls\.mode: Unsupported value: "STRCT"/,
  ],
  [
    'a port mode without selector',
    'peerauthentications',
    { portLevelMtls: { 80: { mode: 'STRICT' } } },
    /portLevelMtls needs a selector with labels/,
  ],
  [
    'a port mode by name',
    'peerauthentications',
    { selector: { matchLabels: { a: 'b' } }, portLevelMtls: { http: { mode: 'STRICT' } } },
    /spec\.portLevelMtls: Invalid value: "object": ports are numbers from 1 to 65535/,
  ],
];

for (const [what, plural, spec, text] of INVALID)
  test(`${plural}: ${what} is refused`, () => {
    assert.throws(() => makeRig().create(plural, policy(spec)), refused(422, text));
  });

test('good policies pass, under both versions', () => {
  const rig = makeRig();
  const spec = {
    selector: { matchLabels: { app: 'web' } },
    action: 'DENY',
    rules: [
      { from: [SOURCE], to: [{ operation: { ports: ['80', '443'], notMethods: ['GET'] } }] },
      {
        from: [{ source: { ipBlocks: ['10.0.0.0/8', '::1'] } }],
        when: [{ key: 'source.ip', notValues: ['10.1.1.1'] }],
      },
    ],
  };
  assert.deepEqual(rig.create('authorizationpolicies', policy(spec)).spec, spec);
  rig.create('authorizationpolicies', { metadata: { name: 'nothing' }, spec: {} });
  rig.create('authorizationpolicies', { metadata: { name: 'everything' }, spec: { rules: [{}] } });
  const mode = {
    selector: { matchLabels: { app: 'web' } },
    mtls: { mode: 'STRICT' },
    portLevelMtls: { 8080: { mode: 'DISABLE' } },
  };
  assert.deepEqual(rig.create('peerauthentications', policy(mode)).spec, mode);
});

test('updates and patches are held to the same', () => {
  const rig = makeRig();
  const made = rig.create('authorizationpolicies', policy({ rules: [{ from: [SOURCE] }] }));
  const isRefused = (error: unknown): boolean => error instanceof StatusError && error.body.code === 400;
  assert.throws(() => rig.update('authorizationpolicies', { ...made, spec: { rule: [] } }), isRefused);
  const kind = rig.kind('authorizationpolicies');
  const stored = rig.store.get(kind.resource, 'default', 'p')!;
  const patch = { spec: { rules: [{ form: [SOURCE] }] } };
  assert.throws(
    () =>
      updateObject(rig, kind, stored, (current) => mergePatch(current, patch) as JsonObject, 'object', {
        dryRun: false,
        fieldManager: 'x',
        fieldValidation: 'Ignore',
        warnings: [],
      }),
    isRefused,
  );
});

test('the status of a policy takes what the mesh writes', () => {
  const rig = makeRig();
  const made = rig.create('authorizationpolicies', policy({ rules: [{}] }));
  const condition = {
    type: 'ZtunnelAccepted',
    status: 'True',
    reason: 'Accepted',
    message: 'm',
    observedGeneration: '1',
  };
  const written = rig.update(
    'authorizationpolicies',
    { ...made, status: { conditions: [condition] } },
    'status',
  );
  assert.deepEqual(written.status, { conditions: [condition] });
  assert.equal(written.metadata.generation, 1);
});
