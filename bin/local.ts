// LOCAL, started inside the machine by its pid 1 (src/local/machine/pid-one.ts): reads its configuration, reports over the
// IPC channel inherited from FRONT, and turns signals and messages into start and stop.

import { setFlagsFromString } from 'node:v8';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { releaseFreedMemory } from '#linux/freed-memory.ts';
import { createApiServer } from '#local/apiserver/server.ts';
import { startControllers } from '#local/controllers/controllers.ts';
import { requestHostPorts } from '#local/machine/host-ports.ts';
import { type Local, startLocal } from '#local/machine/local.ts';
import {
  EXIT_FATAL,
  EXIT_STOPPED,
  isStop,
  type LocalMessage,
  type MachineConfig,
} from '#local/machine/messages.ts';
import { removeNodeVolume } from '#local/machine/node-volumes.ts';
import { SETTLED_FLAG } from '#local/machine/plan.ts';
import { createLogger } from '#telemetry/log.ts';

const config = JSON.parse(process.argv[2] ?? '{}') as MachineConfig;
process.title = 'culvert-local';
const log = createLogger('local', {
  format: 'plain',
  level: config.logLevel,
  write: (line) => process.stderr.write(line),
});

function report(message: LocalMessage): void {
  if (process.send === undefined || !process.connected) return;
  process.send(message, (error: Error | null) => {
    if (error !== null) log.debug('FRONT is gone', { error: reasonOf(error) });
  });
}

// Without FRONT nobody could stop the machine: it ends at once, and pid 1 with it.
process.on('disconnect', () => process.exit(EXIT_STOPPED));

/** By then the mesh and the sample have come up in it. */
const SETTLED_MS = 15_000;

let local: Local | undefined;
let stopping = false;

async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  log.info('stopping');
  try {
    await local?.stop();
  } catch (error) {
    log.warn('not everything stopped in order', { error: reasonOf(error) });
  }
  process.exit(EXIT_STOPPED);
}

function stopSoon(): void {
  stop().catch((error: unknown) => {
    log.error('stopping failed', { error: reasonOf(error) });
    process.exit(EXIT_STOPPED);
  });
}

process.on('message', (message) => {
  if (isStop(message)) stopSoon();
});
process.on('SIGTERM', stopSoon);

try {
  local = await startLocal(
    {
      log,
      createApiServer: (pods, wish) => createApiServer({ log: log.scoped('apiserver'), ...pods }, wish),
      createClient: (server, url, { user, groups = [] }) =>
        createRestClient({
          server: url,
          connect: () => server.connect(user, groups),
          userAgent: user.replace(/^system:(node:.*)?/, '') || 'kubelet',
        }),
      startInformer,
      startControllers: ({ manager, scheduler }, server) =>
        startControllers({
          client: manager,
          schedulerClient: scheduler,
          log: log.scoped('controllers'),
          caPem: server.caPem,
          removeVolumeDirectory: (node, volume) => removeNodeVolume(config.stateDir, node, volume),
        }),
      hostPorts: requestHostPorts({
        send: report,
        onMessage: (handler) => process.on('message', handler),
      }),
      onStep: (step) => report({ type: 'step', ...step }),
    },
    config,
  );
  report({ type: 'ready', ...local.ready });
  log.info('ready', { adopted: local.ready.adoptedContainers });
  // What starting took is garbage now, and an idle program would keep it: nothing makes V8 and malloc look.
  setTimeout(() => {
    setFlagsFromString(SETTLED_FLAG);
    releaseFreedMemory();
  }, SETTLED_MS).unref();
} catch (error) {
  const failure = MeshError.from(error, 'LOCAL_MACHINE_FAILED', 'the local machine could not start');
  log.error(failure.message, { code: failure.code, errno: errnoOf(error) });
  if (failure.stack !== undefined) log.debug(failure.stack);
  report({ type: 'failed', code: failure.code, message: failure.message });
  // The message leaves before the process does.
  setTimeout(() => process.exit(EXIT_FATAL), 100);
}
