// Our control plane as a process of its own, as `bin/control.ts` makes it, on the ports that the benchmark gives it.
// Arguments: kubeconfig, port for xDS.

import { readFileSync } from 'node:fs';
import { readOptions } from '#control/config.ts';
import { createControlPlane } from '#control/control-plane.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { createLogger } from '#telemetry/log.ts';

const [kubeconfig = '', port = ''] = process.argv.slice(2);
const client = createRestClient({
  ...kubeconfigEndpoint(readFileSync(kubeconfig, 'utf8')),
  userAgent: 'istiod',
});
const log = createLogger('control', {
  format: 'plain',
  level: 'warn',
  write: (line) => process.stderr.write(line),
});
const control = await createControlPlane(
  { client, startInformer, log },
  {
    ...readOptions(process.env),
    listen: { host: '127.0.0.1', xdsPort: Number(port), httpPort: 0, monitoringPort: 0 },
  },
);
await control.ready;
process.send?.('ready');
process.on('disconnect', () => process.exit());
