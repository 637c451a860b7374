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
    const ruleset = await inPod('nft', 'list', 'ruleset');
    if (ruleset.includes('table inet istio-ambient-nat')) {
      assert.match(ruleset, /table inet istio-ambient-mangle /);
      const tables = [...ruleset.matchAll(/table inet (\S+)/g)].map((match) => match[1]);
      say(`tables in the pod's namespace: ${tables.join(', ')}`);
    } else {
      // Somebody else's agent may write them by iptables, of either kind.
      const save = /ISTIO_/.test(ruleset) ? 'iptables-nft-save' : 'iptables-legacy-save';
      const saved = await inPod(save);
      for (const table of ['nat', 'mangle'])
        assert.match(saved.split(`*${table}\n`)[1]?.split('COMMIT')[0] ?? '', /-A OUTPUT .*-j ISTIO_OUTPUT/);
      say(`${save} in the pod's namespace: ISTIO_OUTPUT and ISTIO_PRERT in nat and mangle`);
    }
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
