import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isObject, type JsonObject } from './object.ts';
import { OpenApi } from './openapi.ts';
import { openApiV2Protobuf } from './openapi-protobuf.ts';
import { makeRig } from './test-rig.ts';

interface Document {
  readonly paths: Record<string, Record<string, JsonObject>>;
  readonly components: { readonly schemas: Record<string, JsonObject> };
}

function rigged(): { openApi: OpenApi; rig: ReturnType<typeof makeRig> } {
  const rig = makeRig();
  return { rig, openApi: new OpenApi(rig.registry) };
}

const read = (openApi: OpenApi, path: string): Document =>
  JSON.parse(openApi.document(path)?.text ?? 'null') as Document;

function references(value: unknown, found: string[] = []): string[] {
  if (Array.isArray(value)) for (const each of value) references(each, found);
  else if (isObject(value))
    for (const [name, each] of Object.entries(value))
      if (name === '$ref' && typeof each === 'string') found.push(each);
      else references(each, found);
  return found;
}

test('every document of version 3 holds what it refers to, and nothing that only we understand', () => {
  const { openApi } = rigged();
  const paths = Object.keys(openApi.index().paths as object);
  for (const expected of [
    'api/v1',
    'apis/apps/v1',
    'apis/security.istio.io/v1',
    'apis/authentication.k8s.io/v1',
  ])
    assert.ok(paths.includes(expected), expected);
  for (const path of paths) {
    const document = read(openApi, path);
    const { schemas } = document.components;
    for (const reference of references(document))
      assert.ok(
        Object.hasOwn(schemas, reference.replace('#/components/schemas/', '')),
        `${path}: ${reference}`,
      );
    assert.ok(!JSON.stringify(document).includes('x-go-type'));
  }
  assert.equal(openApi.document('apis/nothing/v1'), undefined);
});

test('built-in kinds: types, merge keys, descriptions, and patches by strategic merge', () => {
  const { openApi } = rigged();
  const { schemas } = read(openApi, 'apis/apps/v1').components;
  const deployment = schemas['io.k8s.api.apps.v1.Deployment'] as JsonObject;
  assert.deepEqual(deployment['x-kubernetes-group-version-kind'], [
    { group: 'apps', version: 'v1', kind: 'Deployment' },
  ]);
  const spec = (schemas['io.k8s.api.core.v1.PodSpec'] as { properties: Record<string, JsonObject> })
    .properties;
  const { description, ...containers } = spec.containers!;
  assert.match(String(description), /^List of containers belonging to the pod\./);
  assert.deepEqual(containers, {
    type: 'array',
    items: { $ref: '#/components/schemas/io.k8s.api.core.v1.Container' },
    'x-kubernetes-list-map-keys': ['name'],
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-patch-merge-key': 'name',
    'x-kubernetes-patch-strategy': 'merge',
  });
  const { description: _, ...quantity } = schemas[
    'io.k8s.apimachinery.pkg.api.resource.Quantity'
  ] as JsonObject;
  assert.deepEqual(quantity, { oneOf: [{ type: 'string' }, { type: 'number' }] });
  // Version 3 takes nothing beside a reference, so a described one is wrapped.
  assert.deepEqual((spec.securityContext as { allOf: unknown }).allOf, [
    { $ref: '#/components/schemas/io.k8s.api.core.v1.PodSecurityContext' },
  ]);
  const path = '/apis/apps/v1/namespaces/{namespace}/deployments/{name}';
  const patch = read(openApi, 'apis/apps/v1').paths[path]!.patch as {
    requestBody: { content: object };
    parameters: { name: string }[];
  };
  assert.ok('application/strategic-merge-patch+json' in patch.requestBody.content);
  assert.ok(patch.parameters.some(({ name }) => name === 'fieldValidation'));
});

test('custom kinds: their own schema, the envelope of every kind, no strategic merge', () => {
  const { openApi } = rigged();
  const { paths, components } = read(openApi, 'apis/security.istio.io/v1');
  const policy = components.schemas['io.istio.security.v1.AuthorizationPolicy'] as {
    properties: Record<string, JsonObject>;
  };
  assert.ok('rules' in (policy.properties.spec!.properties as object));
  assert.deepEqual(policy.properties.metadata, {
    allOf: [{ $ref: '#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' }],
    default: {},
  });
  const path = '/apis/security.istio.io/v1/namespaces/{namespace}/authorizationpolicies/{name}';
  const { requestBody } = paths[path]!.patch as { requestBody: { content: object } };
  assert.ok(!('application/strategic-merge-patch+json' in requestBody.content));
});

test('the hash of a document changes with its definition, and only then', () => {
  const { openApi, rig } = rigged();
  const hash = (path: string): string =>
    (openApi.index().paths as Record<string, { serverRelativeURL: string }>)[path]!.serverRelativeURL;
  const before = [hash('api/v1'), hash('apis/security.istio.io/v1')];
  const crd = structuredClone(rig.get('customresourcedefinitions', 'peerauthentications.security.istio.io')!);
  const { versions } = crd.spec as { versions: { schema: { openAPIV3Schema: JsonObject } }[] };
  for (const version of versions) version.schema.openAPIV3Schema.description = 'changed';
  rig.update('customresourcedefinitions', crd);
  assert.equal(hash('api/v1'), before[0]);
  assert.notEqual(hash('apis/security.istio.io/v1'), before[1]);
});

test('version 2 holds what it refers to and knows no alternatives: old clients give up over either', () => {
  const { openApi } = rigged();
  const swagger = openApi.swagger() as { definitions: Record<string, JsonObject> };
  for (const reference of references(swagger))
    assert.ok(Object.hasOwn(swagger.definitions, reference.replace('#/definitions/', '')), reference);
  const walk = (value: unknown, isMap: boolean): void => {
    if (Array.isArray(value)) for (const each of value) walk(each, false);
    else if (isObject(value))
      for (const [name, each] of Object.entries(value)) {
        if (!isMap) assert.ok(!['oneOf', 'anyOf', 'allOf', 'not', 'nullable'].includes(name), name);
        // Names of fields may be anything: JSONSchemaProps has all of these.
        walk(each, name === 'properties' && !isMap);
      }
  };
  for (const definition of Object.values(swagger.definitions)) walk(definition, false);
  assert.ok('io.istio.security.v1.AuthorizationPolicy' in swagger.definitions);
});

test('version 2 in protobuf, byte by byte', () => {
  const document = openApiV2Protobuf({
    swagger: '2.0',
    info: { title: 'T', version: 'v' },
    paths: {
      '/p': {
        patch: {
          consumes: ['c'],
          parameters: [{ name: 'n', in: 'query', type: 'string', uniqueItems: true }],
          responses: { '200': { description: 'OK', schema: { $ref: '#/definitions/D' } } },
          'x-a': 1,
        },
      },
    },
    definitions: {
      D: {
        description: 'd',
        type: 'object',
        required: ['f'],
        properties: { f: { type: 'string', format: 'byte', default: 'x' } },
        additionalProperties: { type: 'array', items: { type: 'integer' } },
        'x-b': ['k'],
      },
    },
  });
  // Field numbers of gnostic's OpenAPIv2.proto: (number << 3 | 2), length, content.
  const bytes = (field: number, ...parts: (string | Buffer)[]): Buffer => {
    const content = Buffer.concat(parts.map((part) => Buffer.from(part)));
    const tag = (field << 3) | 2;
    const head = tag > 127 ? [(tag & 127) | 128, tag >> 7] : [tag];
    assert.ok(content.length < 128);
    return Buffer.concat([Buffer.from([...head, content.length]), content]);
  };
  const extension = (field: number, name: string, yaml: string): Buffer =>
    bytes(field, bytes(1, name), bytes(2, bytes(2, yaml)));
  const query = bytes(3, bytes(2, 'query'), bytes(4, 'n'), bytes(6, 'string'), Buffer.from([0xa0, 0x01, 1]));
  const response = bytes(1, bytes(1, 'OK'), bytes(2, bytes(1, bytes(1, '#/definitions/D'))));
  const patch = bytes(
    8,
    bytes(7, 'c'),
    bytes(8, bytes(1, bytes(2, query))),
    bytes(9, bytes(1, bytes(1, '200'), bytes(2, response))),
    extension(13, 'x-a', '1'),
  );
  const type = (name: string): Buffer => bytes(22, bytes(1, name));
  const definition = Buffer.concat([
    bytes(4, 'd'),
    bytes(19, 'f'),
    bytes(21, bytes(1, type('array'), bytes(23, bytes(1, type('integer'))))),
    type('object'),
    bytes(25, bytes(1, bytes(1, 'f'), bytes(2, bytes(2, 'byte'), bytes(5, bytes(2, '"x"')), type('string')))),
    extension(31, 'x-b', '["k"]'),
  ]);
  const expected = Buffer.concat([
    bytes(1, '2.0'),
    bytes(2, bytes(1, 'T'), bytes(2, 'v')),
    bytes(8, bytes(2, bytes(1, '/p'), bytes(2, patch))),
    Buffer.concat([bytes(9, bytes(1, bytes(1, 'D'), bytes(2, definition)))]),
  ]);
  assert.deepEqual(document, expected);
});
