// Which kinds of iptables a test can use here: a kernel may lack the modules of one.

import { tmpdir } from 'node:os';
import { reasonOf } from '#base/errors.ts';
import { chooseIptables } from '#cni/rules/iptables-tool.ts';

async function whyNot(kind: 'nft' | 'legacy'): Promise<string | false> {
  try {
    await chooseIptables({ forced: kind, runDir: tmpdir() });
    return false;
  } catch (error) {
    return `not run: ${reasonOf(error)}`;
  }
}

/** By the name of a backend: why its tests are skipped. */
export const SKIPPED: Readonly<Record<string, string | false>> = {
  'iptables-nft': await whyNot('nft'),
  'iptables-legacy': await whyNot('legacy'),
};
