// Chained CNI plugins: every `*.conflist` in the node's /etc/cni/net.d is run as in the field (CNI 1.0.0), after the
// primary network, which is built in and has its entry there (machine/primary-network.ts). The CNI agent adds its plugin.

import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { networkOfFamily, POD_GATEWAY_V6 } from '#local/machine/plan.ts';
import { PRIMARY_PLUGIN } from '#local/machine/primary-network.ts';
import { DEFAULT_PATH } from '#local/machine/tools.ts';
import { hostInterface, podNetnsPath } from '#local/net/pod-network.ts';
import { familyOf, type IpAddress } from '#net/ip.ts';

const CONFIG_DIR = '/etc/cni/net.d';
const BINARY_DIR = '/opt/cni/bin';
const CNI_VERSION = '1.0.0';
const INTERFACE = 'eth0';
/** Longer than any deadline of a plugin's own. */
const PLUGIN_LIMIT_MS = 30_000;

interface PluginConfig {
  readonly type: string;
  readonly [field: string]: unknown;
}

interface ConfigList {
  readonly name: string;
  readonly cniVersion?: string;
  readonly plugins: readonly PluginConfig[];
}

export interface CniPod {
  readonly pod: Pod;
  /** One of each family, in the cluster's order. */
  readonly podIps: readonly IpAddress[];
  readonly sandboxId: string;
}

/** The result of the built-in primary network, as a plugin would print it. */
export function primaryResult(node: EmulatedNode, { pod, podIps }: CniPod): Record<string, unknown> {
  const uid = pod.metadata.uid ?? '';
  const gatewayV4 = networkOfFamily(node.plan, 'IPv4')?.address;
  return {
    cniVersion: CNI_VERSION,
    interfaces: [{ name: hostInterface(uid) }, { name: INTERFACE, sandbox: `/var${podNetnsPath(uid)}` }],
    ips: podIps.map((address) =>
      familyOf(address) === 4
        ? { interface: 1, address: `${address}/32`, gateway: gatewayV4 }
        : { interface: 1, address: `${address}/128`, gateway: POD_GATEWAY_V6 },
    ),
    routes: podIps.map((address) =>
      familyOf(address) === 4 ? { dst: '0.0.0.0/0', gw: gatewayV4 } : { dst: '::/0', gw: POD_GATEWAY_V6 },
    ),
    dns: {},
  };
}

/** @throws MeshError CNI_REFUSED with the plugin's own message; plugins run before it stay added (DEL follows). */
export async function addChained(node: EmulatedNode, target: CniPod): Promise<void> {
  let result: unknown = primaryResult(node, target);
  for (const list of await readConfigLists(node)) {
    for (const plugin of list.plugins) {
      const output = await callPlugin(node, 'ADD', list, plugin, target, result);
      if (output.trim() !== '') result = JSON.parse(output);
    }
  }
}

/** In reverse order; every plugin is asked even if one fails. @throws the first failure. */
export async function deleteChained(node: EmulatedNode, target: CniPod): Promise<void> {
  const failures: unknown[] = [];
  const result = primaryResult(node, target);
  for (const list of (await readConfigLists(node)).reverse()) {
    for (const plugin of [...list.plugins].reverse()) {
      try {
        await callPlugin(node, 'DEL', list, plugin, target, result);
      } catch (error) {
        failures.push(error);
      }
    }
  }
  if (failures.length > 0) throw failures[0];
}

async function readConfigLists(node: EmulatedNode): Promise<ConfigList[]> {
  const dir = join(node.rootPath, CONFIG_DIR);
  if (!existsSync(dir)) return [];
  const names = (await readdir(dir)).filter((name) => name.endsWith('.conflist')).sort();
  return Promise.all(
    names.map(async (name) => {
      try {
        const list = JSON.parse(await readFile(join(dir, name), 'utf8')) as ConfigList;
        if (!Array.isArray(list.plugins)) throw new TypeError('it has no list "plugins"');
        // Done already, by ourselves.
        return { ...list, plugins: list.plugins.filter(({ type }) => type !== PRIMARY_PLUGIN) };
      } catch (error) {
        throw MeshError.from(
          error,
          'CNI_REFUSED',
          `${CONFIG_DIR}/${name} of node ${node.plan.name} is no CNI configuration`,
        );
      }
    }),
  );
}

async function callPlugin(
  node: EmulatedNode,
  command: 'ADD' | 'DEL',
  list: ConfigList,
  plugin: PluginConfig,
  { pod, sandboxId }: CniPod,
  prevResult: unknown,
): Promise<string> {
  const { namespace = 'default', name, uid = '' } = pod.metadata;
  const config = { ...plugin, name: list.name, cniVersion: list.cniVersion ?? CNI_VERSION, prevResult };
  const { code, stdout, stderr } = await node.run(`${BINARY_DIR}/${plugin.type}`, [], {
    input: JSON.stringify(config),
    timeoutMs: PLUGIN_LIMIT_MS,
    env: {
      PATH: DEFAULT_PATH,
      CNI_COMMAND: command,
      CNI_CONTAINERID: sandboxId,
      // As runtimes of the field name it: agents look for it below the mount of that directory.
      CNI_NETNS: `/var${podNetnsPath(uid)}`,
      CNI_IFNAME: INTERFACE,
      CNI_PATH: BINARY_DIR,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=${sandboxId};K8S_POD_UID=${uid}`,
    },
  });
  if (code === 0) return stdout;
  throw new MeshError(
    'CNI_REFUSED',
    `plugin type="${plugin.type}" failed (${command.toLowerCase()}): ${pluginMessage(stdout, stderr, code)}`,
  );
}

/** Plugins print their error as JSON on stdout; what cannot even start says so on stderr. */
function pluginMessage(stdout: string, stderr: string, code: number): string {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: unknown; details?: unknown };
    if (typeof msg === 'string')
      return typeof details === 'string' && details !== '' ? `${msg}; ${details}` : msg;
  } catch {
    // not the protocol's form: fall through to what there is
  }
  return stderr.trim() || stdout.trim() || `exit code ${code}`;
}
