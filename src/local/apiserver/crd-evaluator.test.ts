// When a definition makes the server load its evaluator of rules: several megabytes that a mesh at rest need not have.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCelLoaded } from './cel/engine.ts';
import { crdStrategy } from './crd-strategy.ts';
import type { ApiObject } from './object.ts';

const definition = (...rules: readonly object[]): ApiObject => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'things.example.com' },
  spec: {
    versions: [
      {
        name: 'v1',
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: { spec: { type: 'object', 'x-kubernetes-validations': rules } },
          },
        },
      },
    ],
  },
});
const load = (body: unknown, stored: ApiObject | undefined): Promise<void> | undefined =>
  crdStrategy.load?.(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), stored);

test('the evaluator is loaded for rules that are new, not for those that are stored already', async () => {
  const stored = definition({ rule: 'self.a < 3', message: 'small' }, { rule: 'has(self.b)' });
  await load(definition(), stored);
  await load(definition({ rule: 'has(self.b)', message: 'another text' }), stored);
  await load({ spec: stored.spec! }, stored);
  assert.equal(isCelLoaded(), false);
  await load(definition({ rule: 'has(self.b)' }, { rule: 'has(self.c)' }), stored);
  assert.equal(isCelLoaded(), true);
});
