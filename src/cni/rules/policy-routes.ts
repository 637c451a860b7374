// The way back to ztunnel inside a pod: an ip rule and a local route, per family (cni.md A.7.2).

import { MeshError } from '#base/errors.ts';
import { MARK_MASK, PROXIED_MARK, ROUTE_TABLE, RULE_PRIORITY } from '../constants.ts';
import { runTool, type ToolResult } from './run-tool.ts';

const rule = `fwmark 0x${PROXIED_MARK.toString(16)}/0x${MARK_MASK.toString(16)} lookup ${ROUTE_TABLE} priority ${RULE_PRIORITY}`;

/** Families one by one: what one has already must not keep the other from getting it. */
export async function setPolicyRoutes(netnsFd: number, action: 'add' | 'del', ipv6: boolean): Promise<void> {
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
