// From an HTTP request that asks for an upgrade to a running session: which of Kubernetes' stream protocols both sides
// speak, the answer 101, and who serves what follows.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { type CommandWish, serveCommand } from './command-client.ts';
import { SpdyCommandStreams } from './command-spdy.ts';
import { CHANNEL_PROTOCOLS, webSocketCommandClient } from './command-websocket.ts';
import type { CommandRun, PodStreams } from './pod-streams.ts';
import { PortForward } from './port-forward.ts';
import { SpdyConnection } from './spdy-connection.ts';
import { acceptWebSocket, WebSocketBytes } from './websocket.ts';

const SPDY_COMMAND_PROTOCOLS = ['v4.channel.k8s.io'] as const;
const PORT_FORWARD = 'portforward.k8s.io';
const TUNNELLED_PORT_FORWARD = `SPDY/3.1+${PORT_FORWARD}`;

/** An upgraded connection that waits for its answer. */
export interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What the client sent after its request already. */
  readonly head: Buffer;
}

/** `start` answers 101 and serves until the connection is over. */
export type Negotiated<T> =
  | { readonly kind: 'agreed'; readonly start: (upgrade: Upgrade, what: T) => void }
  | { readonly kind: 'refused'; readonly code: 400 | 403; readonly message: string };

export interface StreamDeps {
  readonly log: Logger;
}

export function negotiateCommand(
  deps: StreamDeps,
  request: IncomingMessage,
  wish: CommandWish,
): Negotiated<CommandRun> {
  const asked = askedFor(request);
  if (asked.kind === 'websocket') {
    const protocol = CHANNEL_PROTOCOLS.find((each) => asked.protocols.includes(each));
    if (protocol === undefined) return noCommon(asked.protocols, CHANNEL_PROTOCOLS);
    return {
      kind: 'agreed',
      start: ({ request, socket, head }, run) =>
        acceptWebSocket(request, socket, head, protocol, (webSocket) => {
          served(deps, serveCommand(webSocketCommandClient(webSocket, protocol, wish), run));
        }),
    };
  }
  if (asked.kind === 'none') return notAsked;
  const protocol = SPDY_COMMAND_PROTOCOLS.find((each) => asked.protocols.includes(each));
  if (protocol === undefined) return noCommon(asked.protocols, SPDY_COMMAND_PROTOCOLS);
  return {
    kind: 'agreed',
    start: (upgrade, run) => {
      switchToSpdy(upgrade, protocol);
      const streams = new SpdyCommandStreams(wish);
      const connection = new SpdyConnection(upgrade.socket, {
        onStream: (stream) => streams.onStream(stream),
        onClose: (error) => {
          if (error !== undefined) deps.log.debug('a SPDY client failed', { error: reasonOf(error) });
          streams.onClose();
        },
      });
      streams.complete.then(
        () => served(deps, serveCommand(streams.client(connection), run)),
        (error: unknown) => {
          deps.log.debug('a command could not be served', { error: reasonOf(error) });
          connection.close();
        },
      );
    },
  };
}

export type ForwardTarget = ReturnType<PodStreams['portForward']> & { readonly name: string };

export function negotiatePortForward(deps: StreamDeps, request: IncomingMessage): Negotiated<ForwardTarget> {
  const asked = askedFor(request);
  if (asked.kind === 'none') return notAsked;
  const accepted = asked.kind === 'websocket' ? TUNNELLED_PORT_FORWARD : PORT_FORWARD;
  if (!asked.protocols.includes(accepted)) return noCommon(asked.protocols, [accepted]);
  return {
    kind: 'agreed',
    start: (upgrade, target) => {
      if (asked.kind === 'websocket') {
        acceptWebSocket(upgrade.request, upgrade.socket, upgrade.head, TUNNELLED_PORT_FORWARD, (webSocket) =>
          forward(deps, new WebSocketBytes(webSocket), target),
        );
      } else {
        switchToSpdy(upgrade, PORT_FORWARD);
        forward(deps, upgrade.socket, target);
      }
    },
  };
}

function forward({ log }: StreamDeps, transport: Duplex, { dial, gone, name }: ForwardTarget): void {
  const pairs = new PortForward({ dial, target: name, log });
  const podGone = (): void => connection.close();
  const connection = new SpdyConnection(transport, {
    onStream: (stream) => pairs.onStream(stream),
    onClose: (error) => {
      if (error !== undefined) log.debug('a port-forward client failed', { error: reasonOf(error) });
      gone.removeEventListener('abort', podGone);
      pairs.close();
    },
  });
  gone.addEventListener('abort', podGone);
  if (gone.aborted) podGone();
}

type Asked =
  | { readonly kind: 'none' }
  | { readonly kind: 'websocket' | 'spdy'; readonly protocols: readonly string[] };

const notAsked = {
  kind: 'refused',
  code: 400,
  message: 'Upgrade request required: WebSocket, or SPDY/3.1 by POST',
} as const;

function askedFor({ headers, method }: IncomingMessage): Asked {
  const upgrade = headers.upgrade?.toLowerCase();
  const list = (value: string | string[] | undefined): string[] =>
    [value ?? []]
      .flat()
      .flatMap((each) => each.split(','))
      .map((each) => each.trim())
      .filter((each) => each !== '');
  if (upgrade === 'websocket' && method === 'GET')
    return { kind: 'websocket', protocols: list(headers['sec-websocket-protocol']) };
  if (upgrade === 'spdy/3.1') return { kind: 'spdy', protocols: list(headers['x-stream-protocol-version']) };
  return { kind: 'none' };
}

function noCommon<T>(asked: readonly string[], accepted: readonly string[]): Negotiated<T> {
  return {
    kind: 'refused',
    code: 403,
    message: `unable to upgrade: unable to negotiate protocol: client supports [${asked.join(' ')}], server accepts [${accepted.join(' ')}]`,
  };
}

function switchToSpdy({ socket, head }: Upgrade, protocol: string): void {
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (head.length > 0) socket.unshift(head);
}

function served({ log }: StreamDeps, session: Promise<void>): void {
  session.catch((error: unknown) => log.warn('a command session failed', { error: reasonOf(error) }));
}
