// Where the CNI plugin reports new pods: HTTP on a UNIX socket, `POST /cmdadd` (cni.md A.6.3), and two questions of ours,
// `POST /cmdcheck` and `POST /cmdstatus`. What becomes of a pod is the handler's matter; this file turns its answer or
// failure into a status.

import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { CHECK_PATH, PLUGIN_PATH, PLUGIN_SOCKET, STATUS_PATH } from './constants.ts';
import { type PluginAnswer, type PluginEvent, parsePluginEvent } from './plugin-event.ts';

export interface PluginServer {
  close(): Promise<void>;
}

export interface PluginServerDeps {
  readonly onPod: (event: PluginEvent) => Promise<PluginAnswer>;
  /** Rejects when the pod is not as it should be. */
  readonly onCheck: (event: PluginEvent) => Promise<void>;
  readonly isReady: () => boolean;
  readonly onAnswer: (status: number) => void;
  readonly log: Logger;
}

const BODY_LIMIT_BYTES = 64 * 1024;

export async function startPluginServer(
  deps: PluginServerDeps,
  options: { readonly runDir: string },
): Promise<PluginServer> {
  const { onPod, onCheck, isReady, onAnswer, log } = deps;
  mkdirSync(options.runDir, { recursive: true, mode: 0o750 });
  const path = join(options.runDir, PLUGIN_SOCKET);
  rmSync(path, { force: true });

  const answer = async (request: http.IncomingMessage): Promise<{ status: number; body: string }> => {
    const { url: path = '' } = request;
    if (request.method !== 'POST' || ![PLUGIN_PATH, CHECK_PATH, STATUS_PATH].includes(path))
      return { status: 404, body: `only POST ${PLUGIN_PATH}, ${CHECK_PATH}, ${STATUS_PATH} are served here` };
    if (path === STATUS_PATH)
      return isReady()
        ? { status: 200, body: '' }
        : { status: 503, body: 'the agent has not read the pods of the node yet' };
    let event: PluginEvent;
    try {
      event = parsePluginEvent(await readBody(request));
    } catch (error) {
      return { status: 400, body: reasonOf(error) };
    }
    const who = { ns: event.podNamespace, name: event.podName };
    if (path === CHECK_PATH)
      return onCheck(event).then(
        () => ({ status: 200, body: '' }),
        (error: unknown) => ({ status: 500, body: reasonOf(error) }),
      );
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
        onAnswer(status);
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
