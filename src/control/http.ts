// The plain HTTP ports: readiness and debugging on 8080, metrics and debugging on 15014 (control-plane.md §0, §10.1).
// Debug pages show the whole mesh: from elsewhere than this pod they need the token of somebody in the system namespace;
// others see what they may of their own proxies.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import { isLoopback, parseIp } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import type { ProfileRoutes } from '#telemetry/profile-routes.ts';
import { bearerToken, type TokenReviewer } from './ca/token-review.ts';
import { askDebugPage, type DebugPages, debugText } from './debug-page.ts';

export interface Page {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Uint8Array;
}

export interface HttpDeps {
  readonly scope: Scope;
  readonly log: Logger;
  readonly access: DebugAccess;
  /** Pages for everybody, by path. */
  readonly pages: Readonly<Record<string, () => Page>>;
  /** Pages below `/debug/`, by name; absent: none is served. */
  readonly debugPages: DebugPages | undefined;
  /** `/debug/pprof/…`, for callers inside the pod; absent: not served. */
  readonly profiles: ProfileRoutes | undefined;
}

export interface DebugAccess {
  readonly review: TokenReviewer;
  /** Whose accounts see everything; absent: those of every namespace do. */
  readonly namespaces: readonly string[] | undefined;
}

const TEXT = 'text/plain; charset=utf-8';

export const textPage = (status: number, body: string): Page => ({ status, contentType: TEXT, body });

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
  const url = new URL((request.url ?? '/').replace(/^\/+/, '/'), 'http://control');
  const path = url.pathname;
  const page = Object.hasOwn(deps.pages, path) ? deps.pages[path] : undefined;
  if (page !== undefined) return page();
  if (path !== '/debug' && !path.startsWith('/debug/')) return textPage(404, `nothing at ${path}\n`);
  return debugPage(deps, url, request.socket.remoteAddress, request.headers.authorization);
}

/** Exported for its test. */
export async function debugPage(
  { access, debugPages, profiles = {} }: Pick<HttpDeps, 'access' | 'debugPages' | 'profiles'>,
  url: URL,
  remoteAddress: string | undefined,
  authorization: string | undefined,
): Promise<Page> {
  if (debugPages === undefined)
    return textPage(404, 'debug pages are served over HTTP with ENABLE_DEBUG_ON_HTTP=true only\n');
  const from = parseIp(remoteAddress ?? '');
  const isInside = from !== undefined && isLoopback(from);
  const namespace = isInside ? undefined : await limitedTo(access, authorization);
  if (typeof namespace === 'object') return namespace;
  const profile = Object.hasOwn(profiles, url.pathname) ? profiles[url.pathname] : undefined;
  if (profile !== undefined && !isInside)
    return textPage(403, 'profiles are for callers inside the pod: use kubectl port-forward\n');
  if (profile !== undefined) {
    const { status = 200, contentType = TEXT, body } = await profile({ query: url.searchParams });
    return { status, contentType, body };
  }
  const answer = askDebugPage(debugPages, url.pathname.slice('/debug/'.length) || 'list', {
    parameters: url.searchParams,
    namespace,
    besides: Object.keys(profiles).map((path) => path.slice('/debug/'.length)),
  });
  if (answer.status !== 200) return textPage(answer.status, `${answer.explain}\n`);
  return { status: 200, contentType: 'application/json', body: debugText(answer.content) };
}

/** The namespace whose proxies alone may be shown; undefined: everything may. */
async function limitedTo(
  { review, namespaces }: DebugAccess,
  authorization: string | undefined,
): Promise<string | undefined | Page> {
  const answer = await review(bearerToken(authorization));
  if (answer.kind === 'refused') return textPage(401, `${answer.explain}\n`);
  const { namespace } = answer.caller;
  return namespaces === undefined || namespaces.includes(namespace) ? undefined : namespace;
}

function send(response: ServerResponse, request: IncomingMessage, page: Page): void {
  response.writeHead(page.status, {
    'content-type': page.contentType,
    'content-length': Buffer.byteLength(page.body),
    'x-content-type-options': 'nosniff',
  });
  response.end(request.method === 'HEAD' ? undefined : page.body);
}
