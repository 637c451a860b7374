// Redirection inside one pod: policy routing first, then the rules in one transaction; removed the other way round.

import { MeshError } from '#base/errors.ts';
import { MARK_MASK, NAT_TABLE, PROXIED_MARK, ROUTE_TABLE, RULE_PRIORITY } from '../constants.ts';
import { type PodRuleOptions, renderPodRemoval, renderPodRules } from './nft.ts';
import { runTool, runToolOrFail, type ToolResult } from './run-tool.ts';

/** How a pod's namespace is made to redirect. nftables today; every call is idempotent. */
export interface PodRules {
  apply(netnsFd: number, options: PodRuleOptions): Promise<void>;
  remove(netnsFd: number, options: Pick<PodRuleOptions, 'ipv6'>): Promise<void>;
  /** What the namespace itself says, whatever the annotation claims. */
  present(netnsFd: number): Promise<boolean>;
}

export const nftPodRules: PodRules = {
  async apply(netnsFd, options) {
    // Routes first: were they to fail afterwards, the pod would redirect into a path that cannot answer.
    await route(netnsFd, 'add', options.ipv6);
    await runToolOrFail(
      netnsFd,
      ['nft', '-f', '-'],
      renderPodRules(options),
      'applying the redirection rules',
    );
  },
  async remove(netnsFd, { ipv6 }) {
    await runToolOrFail(netnsFd, ['nft', '-f', '-'], renderPodRemoval(), 'removing the redirection rules');
    await route(netnsFd, 'del', ipv6);
  },
  async present(netnsFd) {
    const { exitCode, stdout } = await runTool(netnsFd, ['nft', 'list', 'table', 'inet', NAT_TABLE]);
    return exitCode === 0 && stdout.includes('redirect');
  },
};

const rule = `fwmark 0x${PROXIED_MARK.toString(16)}/0x${MARK_MASK.toString(16)} lookup ${ROUTE_TABLE} priority ${RULE_PRIORITY}`;

/** Families one by one: what one has already must not keep the other from getting it. */
async function route(netnsFd: number, action: 'add' | 'del', ipv6: boolean): Promise<void> {
  await routeFamily(netnsFd, action, '-4', 'local 0.0.0.0/0');
  if (ipv6) await routeFamily(netnsFd, action, '-6', 'local ::/0');
}

async function routeFamily(
  netnsFd: number,
  action: 'add' | 'del',
  family: '-4' | '-6',
  destination: string,
): Promise<void> {
  const routeVerb = action === 'add' ? 'replace' : 'del';
  const lines = [`route ${routeVerb} ${destination} dev lo table ${ROUTE_TABLE}`, `rule ${action} ${rule}`];
  const command = ['ip', family, '-force', '-batch', '-'] as const;
  const result = await runTool(
    netnsFd,
    command,
    `${(action === 'add' ? lines : lines.reverse()).join('\n')}\n`,
  );
  const trouble = realTrouble(result, action, family);
  if (trouble !== undefined) {
    throw new MeshError(
      'RULES_FAILED',
      `${action === 'add' ? 'adding' : 'removing'} the return route (${command.join(' ')}): ${trouble}`,
    );
  }
}

/** `ip -force` goes on after a failure and exits with 1; only what is not "already so" counts. */
function realTrouble(
  { exitCode, stderr }: ToolResult,
  action: 'add' | 'del',
  family: '-4' | '-6',
): string | undefined {
  if (exitCode === 0) return undefined;
  const alreadySo =
    action === 'add' ? /File exists/ : /No such (file|process)|FIB table does not exist|does not exist/;
  // IPv6 switched off on lo (or in the kernel): nothing of that family can arrive either.
  const noIpv6 = /IPv6 is disabled|Permission denied|not supported|Network is down/;
  const remaining = stderr
    .split('\n')
    .map((line) => line.trim())
    .filter(
      (line) =>
        line !== '' &&
        !line.startsWith('Command failed') &&
        !alreadySo.test(line) &&
        !(family === '-6' && noIpv6.test(line)),
    );
  if (stderr.trim() === '') return `exit code ${exitCode}`;
  return remaining.length === 0 ? undefined : remaining.join('; ');
}
