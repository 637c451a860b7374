// The manifest grants the control plane what it watches, and nothing to write beyond its own objects.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { Scope } from '#base/scope.ts';
import type { Informer, InformerHandlers } from '#k8s/informer.ts';
import type { KubeObject, Resource } from '#k8s/objects.ts';
import { silentLogger } from '#telemetry/log.ts';
import { startInformers } from './informers.ts';

interface Rule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: string[];
  verbs: string[];
}

function rules(kind: string): Rule[] {
  const text = readFileSync(join(import.meta.dirname, '../../deploy/istiod.yaml'), 'utf8');
  return parseAllDocuments(text)
    .map((document) => {
      assert.deepEqual(document.errors, []);
      return document.toJS() as KubeObject & { rules?: Rule[] };
    })
    .filter((object) => object.kind === kind)
    .flatMap((object) => object.rules ?? []);
}

test('every kind that is watched may be listed and watched', () => {
  const watched: Resource[] = [];
  const start = <T extends KubeObject>(_deps: unknown, resource: Resource<T>): Informer<T> => {
    watched.push(resource as Resource);
    return {
      close: () => {},
      synced: Promise.resolve(),
      // Every kind that a cluster may lack is there.
      addHandlers: ({ upsert }: InformerHandlers<T>) => {
        if (resource.kind === 'CustomResourceDefinition')
          upsert(
            {
              spec: { versions: [{ name: 'v1', served: true }] },
              status: { conditions: [{ type: 'Established', status: 'True' }] },
            } as unknown as T,
            undefined,
          );
      },
    } as Informer<T>;
  };
  const scope = new Scope('test');
  startInformers(
    start,
    { client: {} as never, log: silentLogger },
    { systemNamespace: 'istio-system' },
    scope,
  );
  scope.close();
  assert.ok(watched.some(({ plural }) => plural === 'gateways'));
  const granted = rules('ClusterRole');
  for (const { group, plural } of watched)
    for (const verb of ['list', 'watch'])
      assert.ok(
        granted.some(
          (rule) =>
            rule.apiGroups.includes(group) && rule.resources.includes(plural) && rule.verbs.includes(verb),
        ),
        `${verb} ${plural}`,
      );
});

test('what is watched is not fetched by name: nothing more is granted', () => {
  for (const { verbs, resourceNames } of rules('ClusterRole'))
    if (verbs.includes('watch') && resourceNames === undefined) assert.deepEqual(verbs, ['list', 'watch']);
});

test('what may be changed is named, and the key is readable in one namespace only', () => {
  const all = rules('ClusterRole');
  assert.ok(all.every(({ verbs }) => !verbs.includes('*') && !verbs.includes('delete')));
  assert.deepEqual(
    all.filter(({ verbs }) => verbs.includes('patch')).map(({ resources }) => resources),
    [
      ['serviceentries/status', 'workloadentries/status'],
      ['services/status'],
      ['authorizationpolicies/status', 'peerauthentications/status'],
    ],
    'of what others made only the status',
  );
  assert.ok(all.every(({ resources }) => !resources.includes('secrets') && !resources.includes('*')));
  for (const rule of all)
    if (rule.verbs.includes('update'))
      assert.deepEqual(rule.resourceNames, ['istio-ca-root-cert', 'istio-ca-crl']);
  assert.deepEqual(
    rules('Role')
      .filter(({ verbs }) => verbs.includes('get'))
      .map(({ resourceNames }) => resourceNames),
    [['istio-ca-secret'], ['istio-status-leader', 'istio-node-untaint']],
  );
});
