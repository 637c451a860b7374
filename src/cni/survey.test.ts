import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PODS, type Pod } from '#k8s/objects.ts';
import { openNetns } from '#linux/netns.ts';
import { PodTable } from './pod-table.ts';
import type { PodRuleState } from './rules/pod-rules.ts';
import { createSurvey, type Survey } from './survey.ts';

const POD: Pod = {
  apiVersion: 'v1',
  kind: PODS.kind,
  metadata: { name: 'web', namespace: 'shop', uid: 'u1' },
  spec: { containers: [] },
};

function surveyOf(table: PodTable, state: PodRuleState, isOurs = true): Survey {
  return createSurvey(
    {
      table,
      rules: { state: () => Promise.resolve(state) },
      findNetns: () => openNetns('/proc/self/ns/net'),
      eligible: () =>
        isOurs ? { enrol: true, reason: 'namespace-label' } : { enrol: false, reason: 'not-labelled' },
    },
    { ipv6: true, dnsCapture: false },
  );
}

test('a runtime that checks a pod is told what is missing', async () => {
  const table = new PodTable();
  try {
    await assert.rejects(surveyOf(table, 'none').check(POD), /shop\/web .* its traffic is not redirected/);
    assert.equal(await surveyOf(table, 'steering').adopt(POD), true);
    await assert.rejects(surveyOf(table, 'none').check(POD), /its traffic is not redirected/);
    await assert.rejects(surveyOf(table, 'steering').check(POD), /its ztunnel does not serve it/);
    table.entry('u1')!.stage = 'done';
    await surveyOf(table, 'steering').check(POD);
    await surveyOf(table, 'none', false).check(POD);
  } finally {
    table.close();
  }
});

test('an agent that starts takes up whoever is redirected, also a pod that was about to leave', async () => {
  for (const [state, isOurs, annotation, expected] of [
    ['none', true, undefined, false],
    ['none', true, 'pending', false],
    // After a reboot: peers speak HBONE to it, so it must be captured.
    ['none', true, 'enabled', true],
    ['steering', true, undefined, true],
    // The agent ended while the pod left: connections of it are still redirected.
    ['other', false, undefined, true],
    ['none', false, undefined, false],
  ] as const) {
    const table = new PodTable();
    const annotations = annotation === undefined ? {} : { 'ambient.istio.io/redirection': annotation };
    const pod: Pod = { ...POD, metadata: { ...POD.metadata, annotations } };
    try {
      assert.equal(
        await surveyOf(table, state, isOurs).adopt(pod),
        expected,
        `${state} ${isOurs} ${annotation}`,
      );
      assert.equal(table.entry('u1') !== undefined, expected);
    } finally {
      table.close();
    }
  }
});
