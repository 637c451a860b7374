// `/healthz` and `/readyz` on port 8000, as the field's agent has them (cni.md A.10.5).

import http from 'node:http';
import { MeshError } from '#base/errors.ts';

export interface HealthServer {
  readonly port: number;
  close(): void;
}

export function startHealthServer(port: number, isReady: () => boolean): Promise<HealthServer> {
  const server = http.createServer((request, response) => {
    const path = request.url?.split('?')[0];
    const isOk = path === '/healthz' || (path === '/readyz' && isReady());
    const status = isOk ? 200 : path === '/readyz' ? 503 : 404;
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(isOk ? 'ok\n' : status === 503 ? 'not ready\n' : 'not found\n');
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
