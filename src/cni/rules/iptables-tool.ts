// Which iptables of the node is used, and how it is called (cni.md A.7.7): there are two kinds, whose rules do not see
// each other, and nodes come with either, both or one under a plain name.

import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { runTool, runToolOrFail } from './run-tool.ts';

export interface IptablesTool {
  /** `legacy`, `nft`, or `plain` for whatever `iptables` is. */
  readonly kind: 'legacy' | 'nft' | 'plain';
  save(netnsFd: number | undefined, family: 4 | 6): Promise<string>;
  /** Nothing is run for an empty text. */
  restore(netnsFd: number | undefined, family: 4 | 6, text: string, purpose: string): Promise<void>;
}

export interface IptablesChoice {
  /** `FORCE_IPTABLES_BINARY`. */
  readonly forced?: 'legacy' | 'nft';
  /** Where a lock of our own may lie: rules inside pods need not wait for the node's. */
  readonly runDir: string;
}

type Run = typeof runTool;
const KINDS = { legacy: '-legacy', nft: '-nft', plain: '' } as const;
const LOCK_WAIT_S = 30;
/** Fewer lines than that in `iptables-legacy-save` are headers: nobody uses it. */
const LINES_IN_USE = 3;

/** @throws MeshError `TOOL_MISSING` when there is none that works, or the forced one does not. */
export async function chooseIptables(choice: IptablesChoice, run: Run = runTool): Promise<IptablesTool> {
  const { forced } = choice;
  if (forced !== undefined) {
    if (await isUsable(forced, run)) return createTool(forced, choice);
    throw new MeshError(
      'TOOL_MISSING',
      `FORCE_IPTABLES_BINARY=${forced}: iptables-${forced} is not installed or does not work on this node`,
    );
  }
  const isLegacyUsable = await isUsable('legacy', run);
  if (isLegacyUsable && (await contentLines(run)) >= LINES_IN_USE) return createTool('legacy', choice);
  if (await isUsable('nft', run)) return createTool('nft', choice);
  if (isLegacyUsable) return createTool('legacy', choice);
  if (await isUsable('plain', run)) return createTool('plain', choice);
  throw new MeshError(
    'TOOL_MISSING',
    'no iptables on this node works: install the package iptables (or nftables, which is preferred)',
  );
}

/** A rule that matches nothing goes in and out: the program, its kernel modules and our rights are all needed for that. */
async function isUsable(kind: IptablesTool['kind'], run: Run): Promise<boolean> {
  const program = `iptables${KINDS[kind]}`;
  const rule = ['INPUT', '-p', '255', '-j', 'RETURN'];
  const call = async (action: '-A' | '-D'): Promise<boolean> => {
    try {
      return (await run(undefined, [program, ...waiting(kind), '-t', 'nat', action, ...rule])).exitCode === 0;
    } catch (error) {
      if (error instanceof MeshError && error.code === 'TOOL_MISSING') return false;
      throw error;
    }
  };
  return (await call('-A')) && (await call('-D'));
}

async function contentLines(run: Run): Promise<number> {
  const { stdout } = await run(undefined, ['iptables-legacy-save']);
  return stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
}

/** Only the legacy kind has a lock; the other one's transactions are the kernel's. */
const waiting = (kind: IptablesTool['kind']): string[] => (kind === 'nft' ? [] : ['-w', `${LOCK_WAIT_S}`]);

function createTool(kind: IptablesTool['kind'], { runDir }: IptablesChoice): IptablesTool {
  const name = (family: 4 | 6, verb: string): string =>
    `${family === 4 ? 'iptables' : 'ip6tables'}${KINDS[kind]}-${verb}`;
  // The lock's file by the environment, as iptables 1.8.6 and later take it.
  const locked = (netnsFd: number | undefined, command: readonly string[]) =>
    (netnsFd === undefined || kind === 'nft'
      ? command
      : ['env', `XTABLES_LOCKFILE=${join(runDir, 'pod-xtables.lock')}`, ...command]) as [string, ...string[]];
  return {
    kind,
    save: (netnsFd, family) =>
      runToolOrFail(netnsFd, locked(netnsFd, [name(family, 'save')]), '', 'reading the iptables rules'),
    async restore(netnsFd, family, text, purpose) {
      if (text === '') return;
      const command = [name(family, 'restore'), '--noflush', ...waiting(kind)];
      await runToolOrFail(netnsFd, locked(netnsFd, command), text, purpose);
    },
  };
}
