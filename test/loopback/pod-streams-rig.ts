// For the tests of exec, attach and port-forward: a server over a kubelet's side that is made of plain streams, and the
// clients of the three protocols, as bytes on a TLS connection.

import { once } from 'node:events';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { MeshError } from '#base/errors.ts';
import type { CommandEnd, CommandStreams, PodStreams, TerminalSize } from '#local/streams/pod-streams.ts';
import { TestSpdyClient } from '#local/streams/test-spdy-client.ts';
import { type ApiRig, tlsTo } from './apiserver-rig.ts';

export interface FakeKubelet extends PodStreams {
  /** What was asked, in order. */
  readonly asked: unknown[];
  readonly sizes: TerminalSize[];
  /** Ends every port-forward, as when the pod goes. */
  readonly podGone: AbortController;
  /** Resolves when a client went away from a running command. */
  readonly clientGone: Promise<void>;
}

/**
 * Commands: `cat` copies its input, `flood` writes without end until its client is gone, `hang` waits for that,
 * `fail` cannot be started, anything else says its name on both outputs and exits with 7.
 */
export function fakeKubelet(): FakeKubelet {
  const asked: unknown[] = [];
  const sizes: TerminalSize[] = [];
  const podGone = new AbortController();
  let noticed: () => void = () => {};
  const clientGone = new Promise<void>((resolve) => {
    noticed = resolve;
  });
  const run = async (name: string, streams: CommandStreams): Promise<CommandEnd> => {
    const { stdin, stdout, stderr, gone } = streams;
    gone.addEventListener('abort', noticed);
    streams.onResize((size) => sizes.push(size));
    const untilGone = (): Promise<unknown> => (gone.aborted ? Promise.resolve() : once(gone, 'abort'));
    if (name === 'fail') return { kind: 'failed', message: 'there is no such program' };
    if (name === 'hang') {
      await untilGone();
      return { kind: 'exited', code: 143 };
    }
    if (name === 'flood') {
      const piece = Buffer.alloc(64 * 1024, 'x');
      while (!gone.aborted)
        if (stdout?.write(piece) === false) await Promise.race([once(stdout, 'drain'), untilGone()]);
      return { kind: 'exited', code: 141 };
    }
    if (name === 'cat') {
      if (stdin !== undefined)
        for await (const chunk of stdin as AsyncIterable<Buffer>)
          if (stdout?.write(chunk) === false) await Promise.race([once(stdout, 'drain'), untilGone()]);
      return { kind: 'exited', code: 0 };
    }
    stdout?.write(`${name} out`);
    stderr?.write(`${name} err`);
    return { kind: 'exited', code: 7 };
  };
  return {
    asked,
    sizes,
    podGone,
    clientGone,
    exec(pod, container, options) {
      asked.push(['exec', pod.metadata.name, container, options]);
      if (container === 'idle') throw new MeshError('LOCAL_MACHINE_FAILED', 'container idle is not running');
      return (streams) => run(options.command[0] ?? '', streams);
    },
    attach(pod, container, options) {
      asked.push(['attach', pod.metadata.name, container, options]);
      return (streams) => run('attached', streams);
    },
    portForward() {
      return {
        gone: podGone.signal,
        dial: async (port) => {
          const socket = connectTcp({ host: '127.0.0.1', port, allowHalfOpen: true });
          await once(socket, 'connect');
          return socket;
        },
      };
    },
  };
}

export const PODS = '/api/v1/namespaces/default/pods';

export async function makePod(rig: ApiRig, name = 'p'): Promise<void> {
  const containers = [
    { name: 'main', image: 'local/shell' },
    { name: 'idle', image: 'local/shell' },
  ];
  const answer = await rig.call('POST', PODS, { body: { metadata: { name }, spec: { containers } } });
  if (answer.code !== 201) throw new Error(answer.text);
}

export const execPath = (command: readonly string[], query: string, container = 'main'): string =>
  `${PODS}/p/exec?container=${container}&${query}${command.map((word) => `&command=${encodeURIComponent(word)}`).join('')}`;

/** A WebSocket as kubectl opens one, with everything that came. */
export class ChannelClient {
  readonly socket: WebSocket;
  readonly messages: Buffer[] = [];
  closeCode: number | undefined;
  readonly closed: Promise<void>;

  constructor(rig: ApiRig, path: string, protocols: readonly string[]) {
    this.socket = new WebSocket(`wss://127.0.0.1:${rig.port}${path}`, [...protocols], {
      ca: rig.server.caPem,
      cert: rig.server.adminCertPem,
      key: rig.server.adminKeyPem,
    });
    this.socket.binaryType = 'nodebuffer';
    this.socket.on('message', (message: Buffer) => this.messages.push(message));
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code) => {
        this.closeCode = code;
        resolve();
      });
      this.socket.on('error', () => {});
    });
  }

  async open(): Promise<this> {
    await once(this.socket, 'open');
    return this;
  }

  send(channel: number, text: string | Buffer): void {
    this.socket.send(Buffer.concat([Buffer.of(channel), Buffer.from(text as string)]));
  }

  on(channel: number): string {
    return Buffer.concat(
      this.messages.filter((message) => message[0] === channel).map((message) => message.subarray(1)),
    ).toString();
  }
}

/** What a raw upgrade request was answered: the head, and the connection after it. */
export interface Upgraded {
  readonly code: number;
  readonly head: string;
  readonly socket: TLSSocket;
}

export async function upgrade(
  rig: ApiRig,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  early: Buffer = Buffer.alloc(0),
): Promise<Upgraded> {
  const socket = await tlsTo(rig);
  const all = { Host: `127.0.0.1:${rig.port}`, Connection: 'Upgrade', ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`), early]));
  let text = Buffer.alloc(0);
  for (;;) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    text = Buffer.concat([text, chunk]);
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) continue;
    socket.pause();
    if (text.length > end + 4) socket.unshift(text.subarray(end + 4));
    const head = text.toString('latin1', 0, end);
    return { code: Number(/^HTTP\/1.1 (\d+)/.exec(head)?.[1]), head, socket };
  }
}

export async function spdy(rig: ApiRig, path: string, protocol: string): Promise<TestSpdyClient> {
  const { code, head, socket } = await upgrade(rig, 'POST', path, {
    Upgrade: 'SPDY/3.1',
    'X-Stream-Protocol-Version': protocol,
    'Content-Length': '0',
  });
  if (code !== 101) throw new Error(head);
  return new TestSpdyClient(socket);
}

/** SPDY inside WebSocket, under the real name: `ws` as a client refuses it, so the frames are made here (RFC 6455 §5.2). */
export async function tunnel(rig: ApiRig, path: string): Promise<TestSpdyClient> {
  const protocol = 'SPDY/3.1+portforward.k8s.io';
  const { code, head, socket } = await upgrade(rig, 'GET', path, {
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': Buffer.alloc(16, 1).toString('base64'),
    'Sec-WebSocket-Protocol': protocol,
  });
  if (code !== 101 || !head.includes(`Sec-WebSocket-Protocol: ${protocol}`)) throw new Error(head);
  return new TestSpdyClient(new WebSocketFrames(socket));
}

const BINARY = 0x82;
const MASKED = 0x80;

class WebSocketFrames extends Duplex {
  readonly #socket: TLSSocket;
  #held = Buffer.alloc(0);

  constructor(socket: TLSSocket) {
    super();
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('close', () => this.destroy());
    socket.resume();
  }

  #take(chunk: Buffer): void {
    this.#held = Buffer.concat([this.#held, chunk]);
    for (;;) {
      if (this.#held.length < 2) return;
      const short = this.#held[1]!;
      const from = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (this.#held.length < from) return;
      const length =
        short === 126 ? this.#held.readUInt16BE(2) : short === 127 ? this.#held.readUIntBE(4, 6) : short;
      if (this.#held.length < from + length) return;
      if (this.#held[0] === BINARY) this.push(this.#held.subarray(from, from + length));
      this.#held = this.#held.subarray(from + length);
    }
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    // The mask is zero: the bytes stay as they are.
    const head = Buffer.alloc(chunk.length < 126 ? 6 : 8);
    head[0] = BINARY;
    head[1] = MASKED | Math.min(chunk.length, 126);
    if (chunk.length >= 126) head.writeUInt16BE(chunk.length, 2);
    this.#socket.write(Buffer.concat([head, chunk]));
    callback();
  }

  override _destroy(_error: Error | null, callback: () => void): void {
    this.#socket.destroy();
    callback();
  }
}

/** A TCP server of the test's own; `close` ends its connections. */
export async function tcpServer(
  onSocket: (socket: Socket) => void,
): Promise<{ readonly port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as { port: number }).port,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
