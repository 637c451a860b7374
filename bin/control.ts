// `culvert control`: the control plane's process, inside a pod of the cluster.

import { existsSync, readFileSync } from 'node:fs';
import { reasonOf } from '#base/errors.ts';
import { readOptions } from '#control/config.ts';
import { createControlPlane } from '#control/control-plane.ts';
import { inClusterEndpoint } from '#k8s/config.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { createLogger, type LogLevel } from '#telemetry/log.ts';

process.title = 'control';
const { env } = process;
const LEVELS: Readonly<Record<string, LogLevel>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warn',
  error: 'error',
};
const log = createLogger('control', {
  format: env.LOG_FORMAT === 'json' ? 'json' : 'plain',
  level: LEVELS[env.LOG_LEVEL ?? 'info'] ?? 'info',
  write: (line) => process.stdout.write(line),
});

try {
  const endpoint = inClusterEndpoint(env, (path) => readFileSync(path, 'utf8'));
  const client = createRestClient({ ...endpoint, userAgent: 'istiod' });
  const options = readOptions(env);
  // Without IPv6 in the kernel the any-address of both families cannot be bound.
  const host = existsSync('/proc/net/if_inet6') ? options.listen.host : '0.0.0.0';
  const control = await createControlPlane(
    { client, startInformer, log },
    { ...options, listen: { ...options.listen, host } },
  );
  const stop = (signal: string): void => {
    log.info('stopping', { signal });
    control
      .close()
      .catch((error: unknown) => log.error('stopping failed', { error: reasonOf(error) }))
      .finally(() => {
        client.close();
        process.exit(0);
      });
  };
  process.once('SIGTERM', () => stop('SIGTERM'));
  process.once('SIGINT', () => stop('SIGINT'));
  await control.ready;
} catch (error) {
  log.error(`the control plane cannot run: ${reasonOf(error)}`);
  process.exit(1);
}
