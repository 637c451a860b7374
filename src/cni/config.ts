// The agent's environment variables, read into options. Names as the field has them where it has them (cni.md E.1);
// an empty variable counts as not set.

import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import type { LogLevel } from '#telemetry/log.ts';
import type { CniAgentOptions } from './agent.ts';
import type { InstallerOptions } from './install/installer.ts';
import type { BackendOptions } from './rules/backend.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface CniConfig {
  readonly nodeName: string;
  readonly agent: CniAgentOptions;
  readonly backend: Omit<BackendOptions, 'kubeletUid'>;
  /** Undefined: looked up among the node's processes. */
  readonly kubeletUid: number | undefined;
  /** Probes of pods with a branch interface are cared for, where the node is set up for them. */
  readonly branchEni: boolean;
  readonly installer: InstallerOptions;
  readonly removeOnExit: boolean;
  readonly healthPort: number;
  readonly monitoringPort: number;
  readonly logFormat: 'plain' | 'json';
  readonly logLevel: LogLevel;
}

/** `projectDir` holds bin/culvert-cni. @throws MeshError `CONFIG_INVALID` naming the variable. */
export function readCniConfig(env: Environment, projectDir: string): CniConfig {
  const text = (name: string, fallback: string): string => env[name] || fallback;
  const flag = (name: string, fallback: boolean): boolean => {
    const value = text(name, String(fallback)).toLowerCase();
    if (value === 'true' || value === '1') return true;
    if (value === 'false' || value === '0') return false;
    throw invalid(name, value, 'true or false');
  };
  const count = (name: string, fallback: number, most: number): number => {
    const value = text(name, String(fallback));
    if (/^\d{1,10}$/.test(value) && Number(value) <= most) return Number(value);
    throw invalid(name, value, `a whole number up to ${most}`);
  };
  const oneOf = <T extends string>(name: string, allowed: readonly T[], fallback: T): T => {
    const value = text(name, fallback);
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) throw invalid(name, value, allowed.join(', '));
    return found;
  };

  const nodeName = text('NODE_NAME', text('K8S_NODE_NAME', ''));
  if (nodeName === '')
    throw new MeshError('CONFIG_INVALID', 'NODE_NAME is not set: it tells the agent which pods are its own');
  const systemNamespace = text('POD_NAMESPACE', 'istio-system');
  const excluded = text('EXCLUDE_NAMESPACES', 'kube-system')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const ipv6 = flag('AMBIENT_IPV6', false);
  const runDir = text('CNI_AGENT_RUN_DIR', '/var/run/istio-cni');
  return {
    nodeName,
    agent: {
      policy: { systemNamespace, excludedNamespaces: new Set(excluded) },
      netnsDir: text('NETNS_DIR', '/var/run/netns'),
      procDir: text('CULVERT_PROC_DIR', '/proc'),
      zdsPath: text('ZTUNNEL_UDS_ADDRESS', '/var/run/ztunnel/ztunnel.sock'),
      runDir,
      ipv6,
      dnsCapture: flag('AMBIENT_DNS_CAPTURE', false),
      unenrolDrainMs: 1000 * count('CULVERT_UNENROL_DRAIN_SECONDS', 30, 86_400),
      closeOlder: oneOf('CULVERT_OLDER_CONNECTIONS', ['keep', 'close'], 'keep') === 'close',
    },
    backend: {
      ipv6,
      runDir,
      ...(env.NATIVE_NFTABLES ? { nftables: flag('NATIVE_NFTABLES', true) } : {}),
      ...(env.FORCE_IPTABLES_BINARY
        ? { iptables: oneOf('FORCE_IPTABLES_BINARY', ['legacy', 'nft'], 'nft') }
        : {}),
    },
    kubeletUid: env.CULVERT_KUBELET_UID ? count('CULVERT_KUBELET_UID', 0, 0xffff_fffe) : undefined,
    branchEni: flag('AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE', true),
    installer: {
      netDir: text('CNI_NET_DIR', '/etc/cni/net.d'),
      binDir: text('CNI_BIN_DIR', '/opt/cni/bin'),
      files:
        oneOf('CULVERT_CNI_FILES', ['link', 'copy'], 'link') === 'copy'
          ? { kind: 'copy', node: process.execPath, bundle: join(projectDir, 'dist/cni-plugin.mjs') }
          : { kind: 'link', launcher: text('CULVERT_CNI_LAUNCHER', join(projectDir, 'bin/culvert-cni')) },
      mode: !flag('CHAINED_CNI_PLUGIN', true)
        ? 'standalone'
        : flag('ISTIO_OWNED_CNI_CONFIG', false)
          ? 'owned'
          : 'chained',
      ...(env.CNI_CONF_NAME ? { primaryName: env.CNI_CONF_NAME } : {}),
      ...(env.ISTIO_OWNED_CNI_CONFIG_FILENAME ? { ownName: env.ISTIO_OWNED_CNI_CONFIG_FILENAME } : {}),
      groupRead: flag('CNI_CONF_GROUP_READ', false),
      plugin: { runDir, systemNamespace, excludedNamespaces: excluded },
    },
    removeOnExit: flag('CULVERT_CNI_REMOVE_ON_EXIT', false),
    healthPort: count('HEALTH_PORT', 8000, 65_535),
    monitoringPort: count('MONITORING_PORT', 15_014, 65_535),
    logFormat: oneOf('LOG_FORMAT', ['plain', 'json'], 'plain'),
    logLevel: oneOf('LOG_LEVEL', ['debug', 'info', 'warn', 'error'], 'info'),
  };
}

function invalid(name: string, value: string, expected: string): MeshError {
  return new MeshError('CONFIG_INVALID', `${name}=${JSON.stringify(value)}: expected ${expected}`);
}
