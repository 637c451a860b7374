import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { chooseFamily, clusterFamily, type FamilyFacts } from './ip-family.ts';

const facts = (over: Partial<FamilyFacts>): FamilyFacts => ({
  asked: undefined,
  kept: undefined,
  kernelHasV6: true,
  ...over,
});
const refusedWith = (code: string, text: string) => (error: unknown) => {
  assert.ok(error instanceof MeshError);
  assert.equal(error.code, code);
  assert.ok(error.message.includes(text), error.message);
  return true;
};

test('what is asked for, else what the cluster has, else both where the kernel has both', () => {
  assert.equal(chooseFamily(facts({})), 'dual');
  assert.equal(chooseFamily(facts({ kernelHasV6: false })), 'ipv4');
  assert.equal(chooseFamily(facts({ asked: 'ipv4' })), 'ipv4');
  assert.equal(chooseFamily(facts({ kept: 'ipv4' })), 'ipv4');
  assert.equal(chooseFamily(facts({ asked: 'dual', kept: 'dual' })), 'dual');
  assert.equal(chooseFamily(facts({ asked: 'ipv6' })), 'ipv6');
  assert.equal(chooseFamily(facts({ kept: 'ipv6' })), 'ipv6');
});

test('a cluster keeps its families, and IPv6 needs a kernel that has it', () => {
  assert.throws(
    () => chooseFamily(facts({ asked: 'dual', kept: 'ipv4' })),
    refusedWith('CONFIG_INVALID', 'made with --ip-family ipv4'),
  );
  for (const over of [{ asked: 'dual' }, { kept: 'dual' }, { asked: 'ipv6' }, { kept: 'ipv6' }] as const)
    assert.throws(
      () => chooseFamily(facts({ ...over, kernelHasV6: false })),
      refusedWith('KERNEL_FEATURE_MISSING', 'no IPv6'),
    );
});

test('the decision stands in the state directory; a cluster from before has IPv4', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-family-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'cluster.db'), '');
  assert.equal(clusterFamily(dir, undefined), 'ipv4');
  assert.throws(() => clusterFamily(dir, 'dual'), refusedWith('CONFIG_INVALID', 'culvert down --purge'));
  writeFileSync(join(dir, 'ip-family'), 'ipv7\n');
  assert.throws(() => clusterFamily(dir, undefined), refusedWith('LOCAL_MACHINE_FAILED', '"ipv7"'));
});
