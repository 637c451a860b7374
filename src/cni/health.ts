// The agent's ports: `/healthz` and `/readyz` on 8000 (cni.md A.10.5), with `/debug/…` for whoever is on the node itself;
// `/metrics` on 15014 (A.3.1).

import http from 'node:http';
import { MeshError } from '#base/errors.ts';
import { isLoopback, parseIp } from '#net/ip.ts';
import { metricsContentType } from '#telemetry/metrics.ts';

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
  return listen(server, port, 'readiness');
}

export function startMetricsServer(port: number, expose: () => string): Promise<HealthServer> {
  const server = http.createServer((request, response) => {
    const isThere = request.url?.split('?')[0] === '/metrics';
    response.writeHead(isThere ? 200 : 404, {
      'content-type': isThere ? metricsContentType(request.headers.accept) : 'text/plain; charset=utf-8',
    });
    response.end(isThere ? expose() : 'only /metrics is served here\n');
  });
  return listen(server, port, 'metrics');
}

function listen(server: http.Server, port: number, what: string): Promise<HealthServer> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        MeshError.from(
          error,
          error.code === 'EADDRINUSE' ? 'PORT_IN_USE' : 'SYSCALL_FAILED',
          `the ${what} port ${port}`,
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
