// What the shop's HTTP services share: one tiny server and one tiny client, both plain HTTP on purpose. The shop knows
// nothing of the mesh.

import { createServer, get, type IncomingMessage } from 'node:http';

/** Serves GET requests: the handler's answer is sent as JSON. Prints who asked (the mesh keeps the caller's address). */
export function serve(
  name: string,
  port: number,
  answer: (path: string) => Promise<unknown> | unknown,
): void {
  const server = createServer((request, response) => {
    const path = request.url ?? '/';
    if (path === '/healthz') {
      response.end('ok\n');
      return;
    }
    console.log(
      `${name}: ${request.method} ${path} from ${request.socket.remoteAddress}:${request.socket.remotePort}`,
    );
    Promise.resolve()
      .then(() => answer(path))
      .then(
        (body) => {
          response.setHeader('content-type', 'application/json');
          response.end(`${JSON.stringify(body)}\n`);
        },
        (error: unknown) => {
          response.statusCode = 502;
          response.end(`${JSON.stringify({ error: String(error) })}\n`);
        },
      );
  });
  server.listen(port, () => console.log(`${name}: listening on ${port}`));
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

/** GET on a new connection each time, so that every request is a connection of its own for the mesh to judge. */
export function fetchJson(url: string, timeoutMs = 5000): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, timeout: timeoutMs }, (response: IncomingMessage) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => {
        try {
          if (response.statusCode !== 200)
            throw new Error(`${url}: HTTP ${response.statusCode} ${body.trim()}`);
          resolve(JSON.parse(body));
        } catch (error) {
          reject(error);
        }
      });
      response.on('error', reject);
    });
    request.on('timeout', () => request.destroy(new Error(`${url}: no answer in ${timeoutMs} ms`)));
    request.on('error', (error) => reject(new Error(`${url}: ${error.message}`)));
  });
}
