import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { DEFAULT_MESH_CONFIG, parseMeshConfig } from './mesh-config.ts';

test('nothing said is the default; what others obey is passed over', () => {
  assert.deepEqual(parseMeshConfig(''), DEFAULT_MESH_CONFIG);
  assert.deepEqual(
    parseMeshConfig(
      'accessLogFile: /dev/stdout\ndefaultConfig:\n  proxyMetadata: { ISTIO_META_ENABLE_HBONE: "true" }',
    ),
    DEFAULT_MESH_CONFIG,
  );
});

test('every field that is obeyed', () => {
  const text = `
trustDomain: example.org
trustDomainAliases: [old.example]
discoverySelectors:
  - matchLabels: { mesh: on-it }
  - matchExpressions: [{ key: team, operator: NotIn, values: [a] }, { key: x, operator: Exists }]
serviceEntryVisibility:
  defaultVisibility: NAMESPACE
  policies:
    - visibility: PUBLIC
      matchingRules: [{ namespaceSelector: { matchLabels: { a: b } } }, { somethingElse: {} }]
    - {}
`;
  assert.deepEqual(parseMeshConfig(text), {
    trustDomain: 'example.org',
    trustDomainAliases: ['old.example'],
    discoverySelectors: [
      { matchLabels: { mesh: 'on-it' } },
      {
        matchExpressions: [
          { key: 'team', operator: 'NotIn', values: ['a'] },
          { key: 'x', operator: 'Exists', values: [] },
        ],
      },
    ],
    serviceEntryVisibility: {
      otherwise: 'Namespace',
      policies: [
        { visibility: 'Public', namespaceSelectors: [{ matchLabels: { a: 'b' } }, undefined] },
        { visibility: 'Public', namespaceSelectors: [] },
      ],
    },
  });
});

const WRONG: readonly [text: string, message: RegExp][] = [
  ['a: [', /the mesh configuration is no YAML/],
  ['- a', /the mesh configuration is \["a"\]; expected a mapping/],
  ['trustDomain: [x]', /trustDomain is \["x"\]; expected a text/],
  ['trustDomainAliases: x', /trustDomainAliases is "x"; expected a list/],
  [
    'discoverySelectors: [{ matchLabels: { a: 1 } }]',
    /discoverySelectors\[0\]\.matchLabels\.a is 1; expected a text/,
  ],
  [
    'discoverySelectors: [{ matchExpressions: [{ key: a, operator: Is }] }]',
    /matchExpressions\[0\]\.operator is "Is"; expected In, NotIn, Exists, DoesNotExist/,
  ],
  [
    'serviceEntryVisibility: { policies: [{ visibility: SOME }] }',
    /serviceEntryVisibility\.policies\[0\]\.visibility is "SOME"; expected PUBLIC, NAMESPACE or NONE/,
  ],
];
for (const [text, message] of WRONG)
  test(`refused with the place and what is expected: ${text}`, () => {
    assert.throws(
      () => parseMeshConfig(text),
      (error: unknown) => {
        assert.ok(error instanceof MeshError && error.code === 'CONFIG_INVALID');
        assert.match(error.message, message);
        return true;
      },
    );
  });
