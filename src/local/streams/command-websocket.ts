// exec and attach over WebSocket, `v5.channel.k8s.io` and `v4.channel.k8s.io`: the first byte of a message is its channel.
// v5 adds a message that closes a channel, so that a command sees the end of its input while its output goes on.

import { Readable, Writable } from 'node:stream';
import type { WebSocket } from 'ws';
import { type CommandClient, type CommandWish, ended, parseTerminalSize, Resizes } from './command-client.ts';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;
const CLOSE = 255;

/** In the order of preference. */
export const CHANNEL_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'] as const;
export type ChannelProtocol = (typeof CHANNEL_PROTOCOLS)[number];

export function webSocketCommandClient(
  webSocket: WebSocket,
  protocol: ChannelProtocol,
  wish: CommandWish,
): CommandClient {
  const gone = new AbortController();
  const resizes = new Resizes();
  const stdin = wish.stdin ? new Readable({ read: () => webSocket.resume() }) : undefined;
  let stdinOpen = stdin !== undefined;
  const endInput = (): void => {
    if (stdinOpen) stdin?.push(null);
    stdinOpen = false;
  };
  const stdout = wish.stdout ? channelWriter(webSocket, STDOUT) : undefined;
  // A terminal has one output.
  const stderr = wish.stderr && !wish.tty ? channelWriter(webSocket, STDERR) : undefined;

  webSocket.on('message', (message: Buffer, isBinary: boolean) => {
    const channel = message[0];
    const bytes = message.subarray(1);
    if (!isBinary || channel === undefined)
      webSocket.close(1003, 'messages are binary and begin with a channel');
    else if (channel === STDIN) {
      if (stdinOpen && bytes.length > 0 && stdin?.push(bytes) === false) webSocket.pause();
    } else if (channel === RESIZE) resizes.set(parseTerminalSize(bytes.toString()));
    else if (channel === CLOSE && protocol === 'v5.channel.k8s.io') {
      if (bytes[0] === STDIN) endInput();
    } else webSocket.close(1002, `channel ${channel} is not the client's`);
  });
  webSocket.on('close', () => {
    endInput();
    gone.abort();
  });
  // Tells the client that the connection stands, as Kubernetes' server does.
  webSocket.send(Buffer.of(stdout !== undefined ? STDOUT : stderr !== undefined ? STDERR : ERROR));
  return {
    stdin,
    stdout,
    stderr,
    onResize: resizes.listen,
    gone: gone.signal,
    finish: async (status) => {
      await Promise.all([ended(stdout), ended(stderr)]);
      if (webSocket.readyState === webSocket.OPEN)
        webSocket.send(Buffer.concat([Buffer.of(ERROR), Buffer.from(status)]));
      // What the client still sends is read and dropped, or its close would never be seen.
      stdin?.destroy();
      webSocket.resume();
      webSocket.close(1000);
    },
  };
}

function channelWriter(webSocket: WebSocket, channel: number): Writable {
  const prefix = Buffer.of(channel);
  const writer = new Writable({
    write(chunk: Buffer, _encoding, callback) {
      webSocket.send(Buffer.concat([prefix, chunk]), callback);
    },
  });
  writer.on('error', () => {}); // the client is gone: `close` of the socket tells it
  return writer;
}
