// The embedded API server alone in a process, to be killed: `node apiserver-child.ts STATE_DIR` prints its port.

import { createApiServer } from '#local/apiserver/server.ts';
import { silentLogger } from '#telemetry/log.ts';

const server = await createApiServer({ log: silentLogger }, { stateDir: process.argv[2] ?? '' });
const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
process.stdout.write(`${port}\n`);
