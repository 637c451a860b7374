// The plain HTTP ports: readiness and debugging on 8080, metrics and debugging on 15014 (control-plane.md §0, §10.1).
// Debug pages show the whole mesh: from elsewhere than this pod they need the token of somebody in the system namespace.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import { isLoopback, parseIp } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { bearerToken, type TokenReviewer } from './ca/token-review.ts';
import { type DebugPages, debugText } from './debug.ts';

export interface Page {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface HttpDeps {
  readonly scope: Scope;
  readonly log: Logger;
  readonly review: TokenReviewer;
  readonly systemNamespace: string;
  /** Pages for everybody, by path. */
  readonly pages: Readonly<Record<string, () => Page>>;
  /** Pages below `/debug/`, by name. */
  readonly debugPages: DebugPages;
}

export const textPage = (status: number, body: string): Page => ({
  status,
  contentType: 'text/plain; charset=utf-8',
  body,
});

/** Resolves with the port. Rejects with MeshError `PORT_IN_USE` or `CONFIG_INVALID`. */
export function listenHttp(deps: HttpDeps, host: string, port: number): Promise<number> {
  const server = createServer((request, response) => {
    answer(deps, request).then(
      (page) => send(response, request, page),
      (error: unknown) => {
        deps.log.error('a page failed', { path: request.url ?? '', error: reasonOf(error) });
        send(response, request, textPage(500, `internal error: ${reasonOf(error)}\n`));
      },
    );
  });
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const taken = errnoOf(error) === 'EADDRINUSE';
      reject(
        new MeshError(
          taken ? 'PORT_IN_USE' : 'CONFIG_INVALID',
          taken
            ? `port ${port} is taken; stop the program that listens on it`
            : `cannot listen on ${host}:${port}: ${reasonOf(error)}`,
          { cause: error },
        ),
      );
    });
    server.listen({ host, port }, () => {
      deps.scope.onClose(() => {
        server.close();
        server.closeAllConnections();
      });
      server.on('error', (error) => deps.log.error('HTTP server failed', { error: reasonOf(error) }));
      resolve((server.address() as AddressInfo).port);
    });
  });
}

async function answer(deps: HttpDeps, request: IncomingMessage): Promise<Page> {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return textPage(405, 'only GET is answered here\n');
  // istioctl asks for `//version`, and is used to servers that see one slash in several.
  const path = new URL((request.url ?? '/').replace(/^\/+/, '/'), 'http://control').pathname;
  const page = Object.hasOwn(deps.pages, path) ? deps.pages[path] : undefined;
  if (page !== undefined) return page();
  if (!path.startsWith('/debug')) return textPage(404, `nothing at ${path}\n`);
  const refusal = await debugRefusal(deps, request.socket.remoteAddress, request.headers.authorization);
  if (refusal !== undefined) return refusal;
  const name = path.slice('/debug/'.length);
  const debug = deps.debugPages.get(name);
  if (debug === undefined) return textPage(404, `debug pages: ${[...deps.debugPages.keys()].join(', ')}\n`);
  return { status: 200, contentType: 'application/json', body: debugText(debug()) };
}

/** Undefined: the page may be shown. Exported for its test. */
export async function debugRefusal(
  deps: Pick<HttpDeps, 'review' | 'systemNamespace'>,
  remoteAddress: string | undefined,
  authorization: string | undefined,
): Promise<Page | undefined> {
  const from = parseIp(remoteAddress ?? '');
  if (from !== undefined && isLoopback(from)) return undefined;
  const review = await deps.review(bearerToken(authorization));
  if (review.kind === 'refused') return textPage(401, `${review.explain}\n`);
  if (review.caller.namespace !== deps.systemNamespace)
    return textPage(403, `debug pages are for accounts of ${deps.systemNamespace} only\n`);
  return undefined;
}

function send(response: ServerResponse, request: IncomingMessage, page: Page): void {
  response.writeHead(page.status, {
    'content-type': page.contentType,
    'content-length': Buffer.byteLength(page.body),
    'x-content-type-options': 'nosniff',
  });
  response.end(request.method === 'HEAD' ? undefined : page.body);
}
