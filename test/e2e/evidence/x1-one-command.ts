import assert from 'node:assert/strict';
import { type Evidence, now, startsWith, waitForRecord } from './evidence.ts';

const PROGRAMS = ['ztunnel', 'control', 'cni', 'local'] as const;

export const evidence: Evidence = {
  id: 'X1',
  title:
    'the whole mesh on one machine in one command, each program its own process, driven by stock kubectl',
  async show(mesh, say) {
    const bundles = mesh.processes().map(({ pid, commandLine }) => `${pid}  ${commandLine.slice(0, 60)}`);
    for (const [program, count] of [
      ['ztunnel', 2],
      ['cni', 2],
      ['control', 1],
      ['local', 1],
    ] as const) {
      const pids =
        count === 2 ? ['n1', 'n2'].map((node) => mesh.pidOf(program, node)) : [mesh.pidOf(program)];
      assert.equal(new Set(pids).size, count, program);
      say(`${program.padEnd(8)} pid ${pids.join(', ')}`);
    }
    assert.ok(bundles.length >= PROGRAMS.length);
    const pods = await mesh.kubectl('get', 'pods', '-A');
    assert.match(pods, /istio-system\s+istiod-\S+\s+1\/1\s+Running/);
    assert.match(pods, /shop\s+web-\S+\s+1\/1\s+Running/);
    for (const line of pods.trimEnd().split('\n')) say(line);
    const log = await mesh.kubectl('logs', '-n', 'istio-system', 'daemonset/ztunnel', '--tail=200');
    assert.match(log, /src\.identity="spiffe:.*dst\.identity="spiffe:/);
    say('kubectl logs -n istio-system daemonset/ztunnel: src.identity and dst.identity of each connection');
    const record = await waitForRecord(mesh, 'n2', now(), 'a connection over mTLS', (fields) =>
      startsWith(fields.get('src.identity'), 'spiffe://'),
    );
    say(`${record.fields.get('src.identity')} → ${record.fields.get('dst.identity')}`);
  },
};
