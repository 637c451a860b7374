// `/healthz` and `/readyz` on port 8000, as the field's agent has them (cni.md A.10.5); `/debug/…` for whoever is on
// the node itself.

import http from 'node:http';
import { MeshError } from '#base/errors.ts';
import { isLoopback, parseIp } from '#net/ip.ts';

export interface HealthServer {
  readonly port: number;
  close(): void;
}

/** JSON documents by path, for people and `culvert`. */
export type DebugPages = Readonly<Record<string, () => unknown>>;

export function startHealthServer(
  port: number,
  isReady: () => boolean,
  debug: DebugPages = {},
): Promise<HealthServer> {
  const server = http.createServer((request, response) => {
    const path = request.url?.split('?')[0] ?? '';
    const answer = (status: number, text: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(status, { 'content-type': type });
      response.end(`${text}\n`);
    };
    if (path === '/healthz') return answer(200, 'ok');
    if (path === '/readyz') return isReady() ? answer(200, 'ok') : answer(503, 'not ready');
    const page = Object.hasOwn(debug, path) ? debug[path] : undefined;
    if (page === undefined) return answer(404, 'not found');
    // Probes come from anywhere; what pods talk to is nobody else's business.
    const from = parseIp(request.socket.remoteAddress ?? '');
    if (from === undefined || !isLoopback(from)) return answer(403, 'only from the node itself');
    answer(200, JSON.stringify(page()), 'application/json');
  });
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        MeshError.from(
          error,
          error.code === 'EADDRINUSE' ? 'PORT_IN_USE' : 'SYSCALL_FAILED',
          `the readiness port ${port}`,
        ),
      ),
    );
    server.listen(port, () => {
      const address = server.address();
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : port,
        close: () => {
          server.close();
          server.closeAllConnections();
        },
      });
    });
  });
}
