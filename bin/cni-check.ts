// `culvert cni check`: what will break on this node, and what to do.

import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { parseArgs } from 'node:util';
import { reasonOf } from '#base/errors.ts';
import { checkNode } from '#cni/check/check.ts';
import { renderFindings, worstFirst } from '#cni/check/finding.ts';
import type { KubeClient } from '#k8s/client.ts';
import { inClusterEndpoint } from '#k8s/config.ts';
import { chooseContext, kubeconfigPaths, loadKubeconfig } from '#k8s/kubeconfig.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { end } from './lib/end.ts';

const HELP = `Usage: culvert cni check [options]

Looks at this node before the mesh comes to it: tries the redirection in two throw-away network namespaces, reads the
node's CNI configuration and settings, and asks the cluster, if there is a kubeconfig, for traps of its network and for
NetworkPolicies that close port 15008. Changes nothing. Needs root.

Options:
  --net-dir <directory>   the node's CNI configuration (default: /etc/cni/net.d)
  --proc-dir <directory>  the node's /proc (default: /proc)
  -o, --output json       findings for programs
  -h, --help              this text

Exit codes: 0 the mesh works here, 1 something must be mended first, 2 a wrong option

Example:
  sudo KUBECONFIG=$HOME/.kube/config culvert cni check
`;

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return 2;
  if (options.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  await warmThreadPool();
  const client = clusterClient();
  try {
    const findings = await checkNode(
      { client, say: (text) => process.stderr.isTTY && process.stderr.write(`${text}\n`) },
      {
        netDir: options['net-dir'] ?? '/etc/cni/net.d',
        procDir: options['proc-dir'] ?? '/proc',
        runDir: '/run',
      },
    );
    process.stdout.write(
      options.output === 'json'
        ? `${JSON.stringify(worstFirst(findings), undefined, 2)}\n`
        : renderFindings(findings),
    );
    return findings.some(({ level }) => level === 'broken') ? 1 : 0;
  } finally {
    client?.close();
  }
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        'net-dir': { type: 'string' },
        'proc-dir': { type: 'string' },
        output: { type: 'string', short: 'o' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.output === undefined || values.output === 'json') return values;
    process.stderr.write(`culvert cni check: -o ${values.output}: only json is known\n`);
  } catch (error) {
    process.stderr.write(
      `culvert cni check: ${reasonOf(error)}\nculvert cni check --help shows the options\n`,
    );
  }
  return undefined;
}

/** The pod's own account inside a cluster, a person's kubeconfig elsewhere; undefined where there is neither. */
function clusterClient(): KubeClient | undefined {
  const readFile = (path: string): string => readFileSync(path, 'utf8');
  if (process.env.KUBERNETES_SERVICE_HOST !== undefined)
    return createRestClient(inClusterEndpoint(process.env, readFile));
  const paths = kubeconfigPaths(undefined, process.env.KUBECONFIG, homedir());
  try {
    const config = loadKubeconfig(paths, readFile, 'set KUBECONFIG');
    return createRestClient(chooseContext(config, undefined, { readFile }).endpoint);
  } catch (error) {
    if (process.env.KUBECONFIG !== undefined) throw error;
    return undefined;
  }
}

main()
  .then(
    (exitCode) => {
      process.exitCode = exitCode;
    },
    (error: unknown) => {
      process.stderr.write(`culvert cni check: ${reasonOf(error)}\n`);
      process.exitCode = 1;
    },
  )
  .finally(end);
