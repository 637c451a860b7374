// A thread beside the owner's: serves its share of every pod's connections, and knows of the mesh what the owner tells it.

import type { MessagePort } from 'node:worker_threads';
import { systemClock } from '#base/clock.ts';
import { Scope } from '#base/scope.ts';
import { threadMemory } from '#linux/freed-memory.ts';
import { closeFd } from '#linux/netns.ts';
import { createStore } from '#model/store.ts';
import { decodeDeltaResponse } from '#proto/discovery.ts';
import { Sharing } from '#proto/sharing.ts';
import { gatherLines } from '#telemetry/gathered-lines.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { createRegistry } from '#telemetry/metrics.ts';
import { parseRevocationLists } from '#tls/crl.ts';
import { Revocations } from '#tls/revocation.ts';
import { applyDelta } from '#xds/apply.ts';
import type { LogControl } from '../admin.ts';
import { DescriptorGuard } from '../capture/descriptor-guard.ts';
import { createInPodCapture } from '../capture/in-pod.ts';
import { ListenerStock } from '../capture/listener-stock.ts';
import { createDataPath } from '../data-path.ts';
import { drain } from '../drain.ts';
import { createConnectionMetrics } from '../metrics.ts';
import { Exchange } from './exchange.ts';
import { handOn } from './lines.ts';
import type { AskedOfOwner, AskedOfWorker, ToldToOwner, ToldToWorker, WorkerStart } from './messages.ts';
import { WorkerSecrets } from './worker-secrets.ts';

/** Serves until it is told to close; `end` then ends the thread. */
export function runWorker(port: MessagePort, start: WorkerStart, end: () => void): void {
  const { logFilter } = start;
  // DNS is the owner's: its sockets stay where they were opened.
  const config = { ...start.config, dnsProxy: undefined };
  const scope = new Scope('worker');
  const unwritten = new Int32Array(start.unwritten);
  const { write, flush } = gatherLines((text) =>
    handOn(unwritten, text, (lines) => owner.tell('lines', lines)),
  );
  const logControl: LogControl = { ...logFilter };
  const log = createLogger('app', Object.assign(logControl, { format: config.logFormat, write } as const));
  const clock = systemClock;
  const store = createStore({ localNode: config.nodeName });
  const sharing = new Sharing();
  const secrets = new WorkerSecrets(config.tls, clock, (identity) => owner.ask('secret', identity));
  const revocations = config.crlPath === undefined ? undefined : new Revocations();
  const registry = createRegistry();
  const stock = new ListenerStock();
  const inpodLog = log.scoped('inpod');
  const descriptors = new DescriptorGuard({ log: inpodLog, clock });
  const path = createDataPath(
    {
      log,
      podsLog: silentLogger,
      clock,
      random: Math.random,
      scope,
      openCapture: createInPodCapture({ log: inpodLog, scope, stock, descriptors }, config),
      store,
      secrets,
      revocations,
      demand: (name) => owner.ask('demand', name),
      metrics: createConnectionMetrics(registry),
      unread: new Int32Array(start.unread),
      spareMemory: threadMemory(),
      onPodCount: () => {},
    },
    config,
  );
  const { connections, pods } = path;
  const owner = new Exchange<ToldToOwner, AskedOfOwner, ToldToWorker, AskedOfWorker>(port, {
    told: {
      // What cannot be read, the owner says to the control plane and to the log.
      delta: (bytes) => void applyDelta({ store, sharing, log: silentLogger }, decodeDeltaResponse(bytes)),
      state: (update) => store.apply(update),
      secret: ({ identity, material }) => secrets.told(identity, material),
      pod: ({ uid, info, share: { netnsId, netnsFd, listeners } }) => {
        for (const listener of listeners) stock.inherit({ ...listener, netnsId });
        pods.add(uid, info, { id: netnsId, fd: netnsFd, close: () => closeFd(netnsFd) });
      },
      logFilter: ({ level, scopes }) => Object.assign(logControl, { level, scopes }),
      close: () => {
        connections.closeAll();
        scope.close();
        flush();
        end();
      },
    },
    asked: {
      settle: () => null,
      removePod: (uid) => pods.remove(uid),
      revocations: (bytes) => revocations?.replace(parseRevocationLists(Buffer.from(bytes))) ?? 0,
      metrics: () => registry.snapshot(),
      connections: () => new Map([...pods.entries().keys()].map((uid) => [uid, connections.of(uid)])),
      resources: () => process.getActiveResourcesInfo(),
      drain: async () => {
        const result = await drain(
          {
            startDrain: path.startDrain,
            get liveCount() {
              return path.liveCount;
            },
            cut: () => connections.closeAll(),
          },
          config.drainMs,
          scope,
        );
        // Before the answer: the process may end with it.
        flush();
        return result;
      },
    },
  });
  owner.tell('up', null);
}
