// `culvert cni`: the CNI agent of one node.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { reasonOf } from '#base/errors.ts';
import { createCniAgent } from '#cni/agent.ts';
import { createBranchEni, hasEarlyDemuxOff } from '#cni/branch-eni.ts';
import { readCniConfig } from '#cni/config.ts';
import { startHealthServer, startMetricsServer } from '#cni/health.ts';
import { type InstallWatch, keepInstalled } from '#cni/install/install-watch.ts';
import { removePlugin } from '#cni/install/installer.ts';
import { findKubeletUid } from '#cni/kubelet-uid.ts';
import { createCniMetrics } from '#cni/metrics.ts';
import { describeOlder } from '#cni/older-watch.ts';
import { chooseBackend } from '#cni/rules/backend.ts';
import { inClusterEndpoint } from '#k8s/config.ts';
import { NAMESPACES, PEER_AUTHENTICATIONS, PODS } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { unmapStartPages } from '#linux/start-pages.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { createLogger, type Logger } from '#telemetry/log.ts';
import { end } from './lib/end.ts';

async function main(): Promise<void> {
  await warmThreadPool();
  const config = readCniConfig(process.env, projectDir(import.meta.dirname));
  const log = createLogger('cni-agent', {
    format: config.logFormat,
    level: config.logLevel,
    write: (line) => process.stdout.write(line),
  });
  await run(config, log);
}

async function run(config: ReturnType<typeof readCniConfig>, log: Logger): Promise<void> {
  const client = createRestClient(inClusterEndpoint(process.env, (path) => readFileSync(path, 'utf8')));
  const informerDeps = { client, log };
  const pods = startInformer(informerDeps, PODS, { fieldSelector: `spec.nodeName=${config.nodeName}` });
  const namespaces = startInformer(informerDeps, NAMESPACES);
  const peerAuthentications = startInformer(informerDeps, PEER_AUTHENTICATIONS);
  // An emulated node has no process of that name: its kubelet is root.
  const kubeletUid = config.kubeletUid ?? findKubeletUid(config.agent.procDir) ?? 0;
  const backend = await chooseBackend({ ...config.backend, kubeletUid }, log);
  log.info('rules are written by', { backend: backend.name, kubeletUid });
  const hasBranchEni = config.branchEni && hasEarlyDemuxOff(config.agent.procDir);
  const agent = createCniAgent(
    {
      client,
      pods,
      namespaces,
      peerAuthentications,
      rules: backend.pods,
      probes: backend.probes,
      branchEni: hasBranchEni ? createBranchEni(log) : undefined,
      onReconciled: (type) => metrics.reconciled(type),
      onPluginAnswer: (status) => metrics.pluginAnswered(status),
      log,
    },
    config.agent,
  );
  let installed: InstallWatch | undefined;
  const isInstalled = (): boolean => installed?.isInstalled === true;
  const metrics = createCniMetrics({
    connectedZtunnels: () => agent.connectedZtunnels,
    isInstalled,
    pods: (protection) => agent.podCount(protection),
    olderConnections: () =>
      agent.olderConnections().reduce((sum, { connections }) => sum + connections.length, 0),
  });

  const health = await startHealthServer(config.healthPort, () => agent.isReady && isInstalled(), {
    '/debug/older-connections': () => describeOlder(agent.olderConnections()),
  });
  const monitoring = await startMetricsServer(config.monitoringPort, () => metrics.registry.expose());
  const stopped = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopped.resolve());

  // Only now may the runtime call the plugin: there is somebody to answer.
  const started = agent.start().then(() => {
    installed = keepInstalled({ log, onInstall: (result) => metrics.installed(result) }, config.installer);
    unmapStartPages();
  });
  try {
    await Promise.race([started, stopped.promise]);
    await stopped.promise;
  } finally {
    log.info('stopping', { removePlugin: config.removeOnExit });
    await installed?.stop();
    if (config.removeOnExit) await removePlugin(config.installer);
    await agent.stop({ removeHostRules: config.removeOnExit });
    pods.close();
    namespaces.close();
    peerAuthentications.close();
    client.close();
    health.close();
    monitoring.close();
  }
}

/** Bundles run from dist/, this source from bin/: the project is where package.json lies. */
function projectDir(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : projectDir(dirname(from));
}

main().then(end, (error: unknown) => {
  process.stderr.write(`culvert cni: ${reasonOf(error)}\n`);
  process.exit(1);
});
