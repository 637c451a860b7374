// Keeps the service table of every node current: from Services and EndpointSlices, many changes in one write, none when
// nothing changed. Nodes come and go while it runs.

import type { Informer } from '#k8s/informer.ts';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { forgetFlows } from '#linux/conntrack.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import type { Family } from '#local/machine/plan.ts';
import { runCommand } from '#local/machine/tools.ts';
import type { Logger } from '#telemetry/log.ts';
import { createRuleWriter, type RuleWriter } from './rule-writer.ts';
import {
  contentOf,
  EMPTY_CONTENT,
  serviceTable,
  serviceTransaction,
  type TableContent,
  tableName,
} from './service-rules.ts';
import { type NodeView, type ServiceTarget, serviceTargets } from './service-targets.ts';
import { staleUdpFlow } from './udp-flows.ts';

export interface ServiceProxyDeps {
  readonly services: Informer<Service>;
  readonly slices: Informer<EndpointSlice>;
  readonly log: Logger;
}

export interface ServiceProxy {
  /** Resolves when the node has its first table. */
  add(node: EmulatedNode): Promise<void>;
  /** The node is gone, and its table with it. */
  remove(nodeName: string): void;
  /** Resolves when every node has what is known now. */
  written(): Promise<void>;
  close(): void;
}

/** Resolves when the cluster's services are known. */
export async function startServiceProxy(deps: ServiceProxyDeps): Promise<ServiceProxy> {
  await Promise.all([deps.services.synced, deps.slices.synced]);
  const writers = new Map<string, RuleWriter>();
  const changed = (): void => {
    for (const writer of writers.values()) writer.changed();
  };
  deps.services.addHandlers({ upsert: changed, remove: changed });
  deps.slices.addHandlers({ upsert: changed, remove: changed });
  const remove = (name: string): void => {
    writers.get(name)?.close();
    writers.delete(name);
  };
  return {
    async add(node) {
      remove(node.plan.name);
      const writer = createRuleWriter(
        deps,
        { what: 'service rules', node: node.plan.name },
        tableOf(node, deps),
      );
      writers.set(node.plan.name, writer);
      await writer.write();
    },
    remove,
    async written() {
      await Promise.all([...writers.values()].map((writer) => writer.write()));
    },
    close() {
      for (const name of [...writers.keys()]) remove(name);
    },
  };
}

/** Brings one node's tables up to date, one for each family. */
function tableOf(node: EmulatedNode, deps: ServiceProxyDeps): () => Promise<void> {
  const { name, networks } = node.plan;
  const writes = networks.map(({ family, address }) => familyTable(node, deps, { name, address }, family));
  return async () => {
    for (const write of writes) await write();
  };
}

function familyTable(
  node: EmulatedNode,
  { services, slices, log }: ServiceProxyDeps,
  view: NodeView,
  family: Family,
): () => Promise<void> {
  const { name, address } = view;
  const primary = node.plan.networks[0].family;
  let written = '';
  /** Undefined: not known, because this LOCAL has not written yet or a write failed halfway. */
  let held: TableContent | undefined;
  let targets: readonly ServiceTarget[] | undefined;
  return async () => {
    const wanted = serviceTargets(services.all(), slices.all(), view, family, primary);
    const table = serviceTable(wanted, address, family);
    if (table.body === written) return;
    held ??= await readContent(node, family);
    const text = serviceTransaction(table, held);
    held = undefined;
    await node.nft(text, `writing the service rules of node ${name}`);
    held = table.content;
    written = table.body;
    const stale = staleUdpFlow(targets, wanted);
    targets = wanted;
    if (stale === undefined) return;
    const netns = openNetns(node.netnsPath);
    try {
      const forgotten = forgetFlows(netns, (flow) => flow.protocol === 'udp' && stale(flow));
      if (forgotten > 0)
        log.debug('UDP flows to endpoints that are gone were forgotten', { node: name, forgotten });
    } finally {
      closeFd(netns);
    }
  };
}

async function readContent({ tools, netnsPath }: EmulatedNode, family: Family): Promise<TableContent> {
  const list = ['--terse', '--json', 'list', 'table', ...tableName(family).split(' ')];
  const { code, stdout } = await runCommand(tools.nsenter, [`--net=${netnsPath}`, '--', tools.nft, ...list]);
  return code === 0 ? contentOf(stdout) : EMPTY_CONTENT; // no such table yet
}
