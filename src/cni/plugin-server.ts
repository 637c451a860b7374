// Where the CNI plugin reports new pods: HTTP on a UNIX socket, `POST /cmdadd` (cni.md A.6.3). What becomes of a pod is
// the handler's matter; this file turns its answer or failure into a status.

import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { PLUGIN_PATH, PLUGIN_SOCKET } from './constants.ts';
import { type PluginAnswer, type PluginEvent, parsePluginEvent } from './plugin-event.ts';

export interface PluginServer {
  close(): Promise<void>;
}

const BODY_LIMIT_BYTES = 64 * 1024;

export async function startPluginServer(
  deps: { readonly onPod: (event: PluginEvent) => Promise<PluginAnswer>; readonly log: Logger },
  options: { readonly runDir: string },
): Promise<PluginServer> {
  const { onPod, log } = deps;
  mkdirSync(options.runDir, { recursive: true, mode: 0o750 });
  const path = join(options.runDir, PLUGIN_SOCKET);
  rmSync(path, { force: true });

  const answer = async (request: http.IncomingMessage): Promise<{ status: number; body: string }> => {
    if (request.method !== 'POST' || request.url !== PLUGIN_PATH)
      return { status: 404, body: `only POST ${PLUGIN_PATH} is served here` };
    let event: PluginEvent;
    try {
      event = parsePluginEvent(await readBody(request));
    } catch (error) {
      return { status: 400, body: reasonOf(error) };
    }
    const who = { ns: event.podNamespace, name: event.podName };
    try {
      const { enrolled, reason } = await onPod(event);
      log.debug('plugin request', { ...who, enrolled, reason });
      return { status: 200, body: JSON.stringify({ enrolled, reason }) };
    } catch (error) {
      log.warn('a new pod could not join the mesh; the runtime will try again', {
        ...who,
        error: reasonOf(error),
      });
      return { status: 500, body: reasonOf(error) };
    }
  };

  const server = http.createServer((request, response) => {
    void answer(request).then(
      ({ status, body }) => {
        response.writeHead(status, {
          'content-type': status === 200 ? 'application/json' : 'text/plain; charset=utf-8',
          'content-length': Buffer.byteLength(body),
          connection: 'close',
        });
        response.end(body);
      },
      (error: unknown) => {
        log.error('plugin request failed', { error: reasonOf(error) });
        response.destroy();
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(MeshError.from(error, 'SYSCALL_FAILED', `listening on ${path} for the CNI plugin`)),
    );
    server.listen(path, resolve);
  });
  // The directory is closed to others; within it the plugin may run as whoever the runtime likes.
  chmodSync(path, 0o666);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function readBody(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let lengthBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    lengthBytes += chunk.length;
    if (lengthBytes > BODY_LIMIT_BYTES)
      throw new MeshError('CNI_REFUSED', `the plugin event is longer than ${BODY_LIMIT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
