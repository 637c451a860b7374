import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { Evidence } from './evidence.ts';

export const evidence: Evidence = {
  id: 'R2',
  title: "rules and ztunnel's sockets stand inside the pod's own network namespace",
  async show(mesh, say) {
    const pid = mesh.pidOf('shop-web');
    const inPod = (...command: string[]): string =>
      execFileSync('nsenter', ['-t', String(pid), '-n', ...command], { encoding: 'utf8' });
    const rules = inPod('nft', 'list', 'ruleset');
    for (const table of ['istio-ambient-nat', 'istio-ambient-mangle'])
      assert.match(rules, new RegExp(`table inet ${table} `));
    say(
      `tables in the pod's namespace: ${[...rules.matchAll(/table inet (\S+)/g)].map((match) => match[1]).join(', ')}`,
    );
    // /proc/net/tcp6 and tcp: local address in hex, state 0A is LISTEN.
    const listening = inPod('cat', '/proc/net/tcp', '/proc/net/tcp6')
      .split('\n')
      .flatMap((line) => /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:0000 0A/.exec(line)?.[1] ?? [])
      .map((hex) => Number.parseInt(hex, 16));
    for (const port of [15001, 15006, 15008])
      assert.ok(listening.includes(port), `port ${port} listens in the pod's namespace`);
    say("15001, 15006 and 15008 listen there, opened by the node's ztunnel");
    assert.match(inPod('ip', 'rule'), /fwmark 0x111\/0xfff lookup 100/);
    say('replies to kept source addresses come back by fwmark 0x111, table 100');
  },
};
