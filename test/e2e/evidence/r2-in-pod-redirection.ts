import assert from 'node:assert/strict';
import { type Evidence, podNamed } from './evidence.ts';

export const evidence: Evidence = {
  id: 'R2',
  title: "rules and ztunnel's sockets stand inside the pod's own network namespace",
  async show(mesh, say) {
    const web = await podNamed(mesh, 'shop', 'web');
    const netns = `/run/netns/cni-${web.metadata.uid}`;
    const inPod = (...command: string[]): Promise<string> =>
      mesh.inNode(web.spec.nodeName ?? '', 'nsenter', `--net=${netns}`, ...command);
    const rules = await inPod('nft', 'list', 'ruleset');
    for (const table of ['istio-ambient-nat', 'istio-ambient-mangle'])
      assert.match(rules, new RegExp(`table inet ${table} `));
    say(
      `tables in the pod's namespace: ${[...rules.matchAll(/table inet (\S+)/g)].map((match) => match[1]).join(', ')}`,
    );
    const listening = [...(await inPod('ss', '-Hltn')).matchAll(/:(\d+)\s+\S+:\*/g)].map(([, port]) =>
      Number(port),
    );
    for (const port of [15001, 15006, 15008])
      assert.ok(listening.includes(port), `port ${port} listens in the pod's namespace`);
    say("15001, 15006 and 15008 listen there, opened by the node's ztunnel");
    assert.match(await inPod('ip', 'rule'), /fwmark 0x111\/0xfff lookup 100/);
    say('replies to kept source addresses come back by fwmark 0x111, table 100');
  },
};
