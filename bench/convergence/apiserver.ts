// The embedded API server as a process of its own, for the convergence benchmark: says where its kubeconfig is, and ends
// with its parent.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApiServer } from '#local/apiserver/server.ts';
import { silentLogger } from '#telemetry/log.ts';

const CRDS = join(import.meta.dirname, '../../deploy/crds');

const stateDir = mkdtempSync(join(tmpdir(), 'culvert-bench-'));
const crds = readdirSync(CRDS).map((name) => readFileSync(join(CRDS, name), 'utf8'));
const server = await createApiServer({ log: silentLogger }, { stateDir, crds });
const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
const kubeconfig = join(stateDir, 'kubeconfig');
writeFileSync(kubeconfig, server.kubeconfig(`https://127.0.0.1:${port}`), { mode: 0o600 });
process.on('disconnect', () => {
  rmSync(stateDir, { recursive: true, force: true });
  process.exit();
});
process.send!({ kubeconfig });
