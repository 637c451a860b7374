// The ztunnel program: reads its environment, connects the data plane to the kernel, the control plane and the CNI agent,
// and drains on a signal. Everything else is src/ztunnel.

import { readFileSync } from 'node:fs';
import { systemClock } from '#base/clock.ts';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { VERSION } from '#base/version.ts';
import { createCaClient } from '#grpc/ca-client.ts';
import { createGrpcChannel, type GrpcChannelOptions } from '#grpc/client.ts';
import { threadMemory } from '#linux/freed-memory.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { connectSeqpacket } from '#linux/seqpacket.ts';
import { unmapStartPages } from '#linux/start-pages.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { gatherLines } from '#telemetry/gathered-lines.ts';
import { createLogger, type Logger, type LogOptions } from '#telemetry/log.ts';
import type { CertificateAuthorityClient } from '#tls/secret.ts';
import { xdsOverGrpc } from '#xds/grpc-transport.ts';
import type { LogControl } from '#ztunnel/admin.ts';
import { DescriptorGuard } from '#ztunnel/capture/descriptor-guard.ts';
import { createHandOver, type HandOver } from '#ztunnel/capture/hand-over.ts';
import { createInPodCapture, listenerShape } from '#ztunnel/capture/in-pod.ts';
import { ListenerStock } from '#ztunnel/capture/listener-stock.ts';
import { podNetns } from '#ztunnel/capture/pod-netns.ts';
import { parseConfig, type ZtunnelConfig } from '#ztunnel/config.ts';
import { rootSource, tokenSource } from '#ztunnel/credentials.ts';
import type { Endpoint, Environment } from '#ztunnel/environment.ts';
import { createDataPlane, type DataPlaneDeps } from '#ztunnel/owner.ts';
import { MESH_CONFIG_PATH, readProxyConfig } from '#ztunnel/proxy-config.ts';
import { buildInfo } from '#ztunnel/version.ts';
import type { StartWorkers } from '#ztunnel/workers/group.ts';

process.title = 'ztunnel';

/** Writes to a pipe or file are synchronous: a full pipe holds the data path back instead of losing lines. */
const { write, flush } = gatherLines((text) => process.stdout.write(text));
process.on('exit', flush);
// Whoever read the log may go away before us; connections matter more than lines that nobody reads.
process.stdout.on('error', () => {});

async function main(env: Environment): Promise<void> {
  const config = parseConfig(env, await readProxyConfig(env, textOf(MESH_CONFIG_PATH)));
  const logControl: LogControl & LogOptions = { format: config.logFormat, ...config.logFilter, write };
  const log = createLogger('app', logControl);
  for (const notice of config.notices) log.warn(notice);
  await warmThreadPool();
  const scope = new Scope('process');
  const captureScope = scope.child('capture');
  const inpodLog = log.scoped('inpod');
  const stock = new ListenerStock();
  const descriptors = new DescriptorGuard({ log: inpodLog, clock: systemClock });
  const handOver = handOverOf(config, { stock, log: inpodLog, scope });
  await handOver?.receive();
  const grpc = { log: log.scoped('xds'), scope };
  const { xds, localXds } = config;
  let stop: (reason: string) => void = () => {};
  const dataPlane = await createDataPlane(
    {
      log,
      logControl,
      clock: systemClock,
      random: Math.random,
      spareMemory: threadMemory(),
      descriptors,
      openCapture: createInPodCapture({ log: inpodLog, scope: captureScope, stock, descriptors }, config),
      ...(config.threads === 1 ? {} : { startWorkers: await furtherThreads(log) }),
      ...resolvConf(config),
      ca: await authority(config, { log: log.scoped('identity'), scope }),
      ...(xds === undefined
        ? {}
        : { openXds: xdsOverGrpc(createGrpcChannel(grpc, channelOptions(config, xds, 'xds'))) }),
      ...(localXds === undefined ? {} : { loadState: staticState(localXds, xds === undefined) }),
      ...(config.mode === 'shared'
        ? {
            zds: {
              connect: connectSeqpacket,
              netns: podNetns,
              discard: closeFd,
              onSnapshot: () => handOver?.settle(),
            },
          }
        : { ownNetns: podNetns(openNetns('/proc/self/ns/net')) }),
      shutdown: () => stop('the admin port'),
      onFatal: (error) => {
        log.error('ending: what is to be served cannot be served', { error: error.message });
        process.exitCode = 1;
        stop('a fatal error');
      },
    },
    config,
  );
  unmapStartPages();
  log.info('ztunnel is up', {
    node: config.nodeName ?? '',
    pid: process.pid,
    version: VERSION,
    threads: config.threads,
  });

  let isStopping = false;
  stop = (reason) => {
    if (isStopping) return;
    isStopping = true;
    log.info('shutting down', { reason, deadline: `${config.drainMs}ms` });
    handOver?.close();
    dataPlane.drain().then(
      (result) => {
        if (result.kind === 'deadline')
          log.warn('drain deadline reached; remaining connections were closed', { connections: result.cut });
        scope.close();
        process.exit();
      },
      (error) => {
        log.error('draining failed', { error: reasonOf(error) });
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => {
    if (isStopping) process.exit(0);
    stop('SIGINT');
  });
}

/** Loaded here: a proxy of one thread must not carry what several need. */
async function furtherThreads(log: Logger): Promise<StartWorkers> {
  const { workersOf } = await import('#ztunnel/workers/group.ts');
  // Beside this file, be it source or bundle.
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
  return workersOf({
    entry: new URL(`./ztunnel-worker${extension}`, import.meta.url),
    write,
    // At once, as a failure in this thread would: what is left could serve half of the connections only.
    onCrash: (error) => {
      log.error('ending: a thread that serves has failed', { error: error.message });
      if (error.cause instanceof Error) process.stderr.write(`${error.cause.stack}\n`);
      process.exit(1);
    },
    onHung: (error) => {
      log.error('ending: a thread that serves hangs', { error: error.message });
      flush();
      // An exit would wait for the thread, which may never come back from where it is.
      process.kill(process.pid, 'SIGKILL');
    },
  });
}

function resolvConf(config: ZtunnelConfig): { resolvConf?: string } {
  if (config.dnsProxy === undefined) return {};
  try {
    return { resolvConf: readFileSync('/etc/resolv.conf', 'utf8') };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return {};
    throw MeshError.from(error, 'CONFIG_INVALID', 'reading /etc/resolv.conf');
  }
}

function handOverOf(config: ZtunnelConfig, deps: Parameters<typeof createHandOver>[0]): HandOver | undefined {
  if (config.handOverPath === undefined) return undefined;
  return createHandOver(deps, { path: config.handOverPath, shape: listenerShape(config) });
}

function channelOptions(config: ZtunnelConfig, endpoint: Endpoint, kind: 'xds' | 'ca'): GrpcChannelOptions {
  const token = tokenSource(config.authToken);
  const alternative = kind === 'xds' ? config.altXdsHostname : config.altCaHostname;
  return {
    host: endpoint.host,
    port: endpoint.port,
    serverName: endpoint.host,
    tls: config.tls,
    rootPem: rootSource(kind === 'xds' ? config.xdsRootCa : config.caRootCa),
    metadata: { ...(kind === 'xds' ? config.xdsHeaders : config.caHeaders), clusterid: config.clusterId },
    ...(token === undefined ? {} : { token }),
    ...(alternative === undefined ? {} : { alternativeServerName: alternative }),
  };
}

async function authority(
  config: ZtunnelConfig,
  deps: Parameters<typeof createGrpcChannel>[0],
): Promise<CertificateAuthorityClient> {
  if (config.fakeCa !== undefined) {
    deps.log.warn('FAKE_CA: certificates are made here; whoever has the root can be any workload');
    // Loaded here: few proxies sign.
    const { createFakeCa } = await import('#ztunnel/fake-ca.ts');
    return createFakeCa(config.fakeCa);
  }
  if (config.ca === undefined)
    throw new MeshError(
      'CONFIG_INVALID',
      'CA_ADDRESS is empty: expected the address of the certificate authority',
    );
  return createCaClient(createGrpcChannel(deps, channelOptions(config, config.ca, 'ca')), {
    impersonate: config.mode === 'shared',
  });
}

/** The YAML library is loaded only for a proxy that is given a file. */
function staticState(
  from: NonNullable<ZtunnelConfig['localXds']>,
  follow: boolean,
): DataPlaneDeps['loadState'] & object {
  return async (deps) => {
    const { loadStaticState } = await import('#ztunnel/static/load.ts');
    await loadStaticState(deps, from, { follow });
  };
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw MeshError.from(error, 'CONFIG_INVALID', `${path} cannot be read`);
  }
}

const HELP = `usage: ztunnel [proxy]   run the proxy (settings are environment variables)
       ztunnel version   print the version
       ztunnel help      print this
`;

/** As the field's program: `proxy` is the default, and its further arguments are ignored (ztunnel.md §1.1). */
function run(command: string | undefined): void {
  switch (command) {
    case undefined:
    case 'proxy':
      main(process.env).catch((error) => {
        process.stderr.write(`ztunnel: ${reasonOf(error)}\n`);
        process.exit(1);
      });
      break;
    case 'version':
      process.stdout.write(`${buildInfo(process.env.ISTIO_META_ISTIO_VERSION ?? 'unknown')}\n`);
      break;
    case 'help':
      process.stdout.write(HELP);
      break;
    default:
      process.stderr.write(`ztunnel: unknown command ${JSON.stringify(command)}\n${HELP}`);
      process.exitCode = 1;
  }
}

run(process.argv[2]);
