import assert from 'node:assert/strict';
import { askAuthority } from '../lib/ask-authority.ts';
import { type Evidence, logOf, podNamed } from './evidence.ts';

export const evidence: Evidence = {
  id: 'M5',
  title: "the authority signs a node proxy's own workloads only, and says why it refuses",
  async show(mesh, say) {
    const control = await podNamed(mesh, 'istio-system', 'istiod');
    const linesAbout = async (account: string): Promise<string[]> =>
      (await logOf(mesh, 'istio-system', control.metadata.name))
        .split('\n')
        .filter((line) => /refus|impersonation failed/i.test(line) && line.includes(`sa/${account}`));
    const own = await askAuthority(mesh, 'web');
    if (own !== 'signed\n')
      assert.fail(`${own}in the authority's log: ${(await linesAbout('web')).join('\n')}`);
    say('ztunnel of n1 asks for shop/web, which runs on n1: signed');
    const foreign = await askAuthority(mesh, 'catalog');
    assert.match(foreign, /^refused: /);
    say(`ztunnel of n1 asks for shop/catalog, which runs on n2: ${foreign.trim()}`);
    const forged = await askAuthority(mesh, 'web', { token: 'not-a-token' });
    assert.match(forged, /^refused: /);
    say(`somebody with a made-up token asks for shop/web: ${forged.trim()}`);
    const audit = await linesAbout('catalog');
    assert.ok(audit.length > 0, "the refusal stands in the authority's audit log");
    say(`its audit line: ${audit.at(-1)}`);
  },
};
