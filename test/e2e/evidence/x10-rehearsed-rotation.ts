// X10: the authority's ends are foreseen, and a rotation of its root is rehearsed before it is done.

import assert from 'node:assert/strict';
import type { RehearsalResult } from '../../../src/cli/ca/rehearsal.ts';
import type { AuthorityReport } from '../../../src/cli/ca/report.ts';
import { until } from '../harness.ts';
import { onCluster } from '../lib/rotate-root.ts';
import type { Evidence } from './evidence.ts';

export const evidence: Evidence = {
  id: 'X10',
  title:
    'the ends of certificates are foreseen; a rotation of the root is rehearsed, and what would break is told',
  async show(mesh, say) {
    let report: AuthorityReport | undefined;
    await until(async () => {
      report = JSON.parse(await onCluster(mesh, 'ca', '-o', 'json')) as AuthorityReport;
      return report.findings.length === 0;
    }, 'an authority that nothing is to be said of').catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(report?.findings)}`);
    });
    assert.equal(report?.certificates[0]?.role, 'signing');
    assert.ok((report?.certificates[0]?.daysLeft ?? 0) > 3600);
    assert.ok(report?.namespaces.every(({ state }) => state === 'current'));
    assert.equal(report?.proxies.length, 2);
    for (const line of (await onCluster(mesh, 'ca')).split('\n')) say(line);

    for (const line of (await onCluster(mesh, 'ca', 'rehearse')).split('\n')) say(line);
    const atOnce = await onCluster(mesh, 'ca', 'rehearse', '--at-once', '-o', 'json').then(
      () => assert.fail('replacing everything at once must not be called safe'),
      (error: { code?: unknown; stdout?: string }) => {
        assert.equal(error.code, 1);
        return JSON.parse(error.stdout ?? '') as RehearsalResult;
      },
    );
    assert.ok((atOnce.steps[1]?.broken.length ?? 0) >= 3);
    say('everything at once:');
    for (const { who, reason } of atOnce.steps[1]?.broken ?? []) say(`  ${who}: ${reason}`);
  },
};
