// The flags of every command that works on a cluster. Apart from cluster.ts, which loads more than `culvert help` needs.

import type { Command } from 'commander';

export const SYSTEM_NAMESPACE = 'istio-system';

export interface ClusterFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
}

export const withClusterOptions = (command: Command): Command =>
  command
    .option('--kubeconfig <file>', 'kubeconfig to use (default: $KUBECONFIG, else ~/.kube/config)')
    .option('--context <name>', 'context of the kubeconfig (default: its current one)');
