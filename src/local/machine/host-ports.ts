// Ports of the host for services of the cluster. FRONT binds a loopback address outside and sends the listener in over the IPC channel;
// from then on it is LOCAL's, which accepts from it as from any other. Both ends of that exchange stand here.

import { createServer, Server } from 'node:net';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { formatHostPort } from '#net/host-port.ts';
import type { Logger } from '#telemetry/log.ts';
import type { FrontMessage, HostAddress, LocalMessage } from './messages.ts';

const BACKLOG = 511;
const ANSWER_LIMIT_MS = 10_000;

/** FRONT's end of the channel: a child process. */
export interface FrontChannel {
  send(message: FrontMessage, handle: Server | undefined, sent: (error: Error | null) => void): boolean;
}

/** FRONT: binds the port and sends it in, or says why not. */
export function sendHostPort(channel: FrontChannel, { host, port }: HostAddress, log: Logger): void {
  const sent = (error: Error | null): void => {
    if (error !== null) log.debug('a host port was not handed on', { host, port, error: reasonOf(error) });
  };
  // Nothing is accepted here; should a client be quicker than the channel, it may try again.
  const server = createServer((socket) => socket.resetAndDestroy());
  server.on('error', (error) =>
    channel.send(
      { type: 'host-port-refused', host, port, message: refusal({ host, port }, error) },
      undefined,
      sent,
    ),
  );
  server.listen({ port, host, backlog: BACKLOG, exclusive: true }, () =>
    channel.send({ type: 'host-port', host, port }, server, (error) => {
      sent(error);
      server.close();
    }),
  );
}

function refusal({ host, port }: HostAddress, error: Error): string {
  const where = formatHostPort(host, port);
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return `${where} of the host is taken by another program (ss -ltnp 'sport = :${port}' names it); stop it or choose another port`;
    case 'EACCES':
      return `this user may not listen on ${where} of the host; choose a port from 1024, run culvert up as root, or allow it: sudo sysctl net.ipv4.ip_unprivileged_port_start=${port}`;
    case 'EADDRNOTAVAIL':
      return `the host has no address ${host}; switch IPv6 on for its loopback interface: sudo sysctl net.ipv6.conf.lo.disable_ipv6=0`;
    default:
      return `cannot listen on ${where} of the host: ${error.message}`;
  }
}

export interface HostPorts {
  /** A listener on the host, to be closed by the caller. @throws MeshError PORT_IN_USE with the remedy. */
  open(address: HostAddress): Promise<Server>;
}

/** LOCAL's end of the channel: its own process. */
export interface LocalChannel {
  send(message: LocalMessage): void;
  onMessage(handler: (message: unknown, handle: unknown) => void): void;
}

/** LOCAL: asks FRONT for listeners, one after the other (Node's channel holds one handle at a time). */
export function requestHostPorts(channel: LocalChannel): HostPorts {
  let waiting: { readonly address: HostAddress; settle(answer: Server | MeshError): void } | undefined;
  const isAwaited = ({ host, port }: Partial<HostAddress>): boolean =>
    waiting?.address.port === port && waiting?.address.host === host;
  let last: Promise<unknown> = Promise.resolve();
  channel.onMessage((message, handle) => {
    const answer = message as Partial<FrontMessage>;
    if (answer.type === 'host-port' && handle instanceof Server) {
      // Meant for a LOCAL that died while it came: nobody waits for it.
      if (!isAwaited(answer)) handle.close();
      else waiting?.settle(handle);
    } else if (answer.type === 'host-port-refused' && isAwaited(answer))
      waiting?.settle(
        new MeshError('PORT_IN_USE', answer.message ?? 'refused', { details: { port: answer.port ?? 0 } }),
      );
  });
  const ask = (address: HostAddress): Promise<Server> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          waiting?.settle(new MeshError('PORT_IN_USE', `no answer about port ${address.port} of the host`)),
        ANSWER_LIMIT_MS,
      );
      waiting = {
        address,
        settle(answer) {
          clearTimeout(timer);
          waiting = undefined;
          if (answer instanceof Server) resolve(answer);
          else reject(answer);
        },
      };
      channel.send({ type: 'host-port', ...address });
    });
  return {
    open(address) {
      const turn = last.then(() => ask(address));
      last = turn.catch(() => {}); // its caller hears of it
      return turn;
    },
  };
}
