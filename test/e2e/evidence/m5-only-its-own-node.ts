import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG_MAPS, SERVICES } from '#k8s/objects.ts';
import { projectDir } from '../harness.ts';
import { type Evidence, logOf, podNamed } from './evidence.ts';

export const evidence: Evidence = {
  id: 'M5',
  title: "the authority signs a node proxy's own workloads only, and says why it refuses",
  async show(mesh, say) {
    const { spec } = await mesh.client.get(SERVICES, 'istiod', 'istio-system');
    const roots = await mesh.client.get(CONFIG_MAPS, 'istio-ca-root-cert', 'istio-system');
    const container = mesh.pidOf('ztunnel', 'n1');
    // /var/run is a link to /run there; followed from here it would lead into the host's own /run.
    const ownToken = readFileSync(`/proc/${container}/root/run/secrets/tokens/istio-token`, 'utf8');
    const ask = (token: string, account: string): Promise<string> =>
      mesh.inNode(
        'n1',
        process.execPath,
        join(projectDir, 'test/e2e/lib/ask-ca.ts'),
        spec.clusterIP ?? '',
        roots.data?.['root-cert.pem'] ?? '',
        token,
        `spiffe://cluster.local/ns/shop/sa/${account}`,
      );
    const control = await podNamed(mesh, 'istio-system', 'istiod');
    const linesAbout = async (account: string): Promise<string[]> =>
      (await logOf(mesh, 'istio-system', control.metadata.name))
        .split('\n')
        .filter((line) => /refus|impersonation failed/i.test(line) && line.includes(`sa/${account}`));
    const own = await ask(ownToken, 'web');
    if (own !== 'signed\n')
      assert.fail(`${own}in the authority's log: ${(await linesAbout('web')).join('\n')}`);
    say('ztunnel of n1 asks for shop/web, which runs on n1: signed');
    const foreign = await ask(ownToken, 'catalog');
    assert.match(foreign, /^refused: /);
    say(`ztunnel of n1 asks for shop/catalog, which runs on n2: ${foreign.trim()}`);
    const forged = await ask('not-a-token', 'web');
    assert.match(forged, /^refused: /);
    say(`somebody with a made-up token asks for shop/web: ${forged.trim()}`);
    const audit = await linesAbout('catalog');
    assert.ok(audit.length > 0, "the refusal stands in the authority's audit log");
    say(`its audit line: ${audit.at(-1)}`);
  },
};
