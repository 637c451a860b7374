// Which tool writes the rules of this node: nftables where it works, iptables elsewhere or on request.

import { MeshError } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { createHostProbes, type HostProbes } from './host-probes.ts';
import { createIptablesHostRules } from './iptables-host.ts';
import { createIptablesPodRules } from './iptables-pod-rules.ts';
import { chooseIptables } from './iptables-tool.ts';
import { type HostRuleOptions, nftHostRules } from './nft-host.ts';
import { nftPodRules } from './nft-pod-rules.ts';
import type { PodRules } from './pod-rules.ts';
import { runTool } from './run-tool.ts';

export interface BackendOptions extends HostRuleOptions {
  /** `NATIVE_NFTABLES`; undefined: whichever works. */
  readonly nftables?: boolean;
  /** `FORCE_IPTABLES_BINARY` */
  readonly iptables?: 'legacy' | 'nft';
  readonly runDir: string;
}

export interface RuleBackend {
  readonly name: string;
  readonly pods: PodRules;
  readonly probes: HostProbes;
}

/** @throws MeshError `TOOL_MISSING` saying what to install. */
export async function chooseBackend(options: BackendOptions, log: Logger): Promise<RuleBackend> {
  if (options.nftables === true && options.iptables !== undefined)
    log.warn('FORCE_IPTABLES_BINARY has no effect beside NATIVE_NFTABLES=true');
  const wantsIptables = options.nftables === false || (options.nftables === undefined && options.iptables);
  if (!wantsIptables) {
    const trouble = await nftTrouble();
    if (trouble === undefined)
      return { name: 'nftables', pods: nftPodRules, probes: createHostProbes(nftHostRules(options)) };
    if (options.nftables === true) throw trouble;
    log.info('nftables cannot be used on this node, trying iptables', { reason: trouble.message });
  }
  const tool = await chooseIptables({
    runDir: options.runDir,
    ...(options.iptables === undefined ? {} : { forced: options.iptables }),
  });
  return {
    name: tool.kind === 'plain' ? 'iptables' : `iptables-${tool.kind}`,
    pods: createIptablesPodRules(tool),
    probes: createHostProbes(createIptablesHostRules(tool, options)),
  };
}

async function nftTrouble(): Promise<MeshError | undefined> {
  try {
    const { exitCode, stderr } = await runTool(undefined, ['nft', 'list', 'tables']);
    if (exitCode === 0) return undefined;
    return new MeshError('RULES_FAILED', `nft does not work on this node: ${stderr.trim()}`);
  } catch (error) {
    return MeshError.from(error, 'RULES_FAILED', 'trying nft');
  }
}
