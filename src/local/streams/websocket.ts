// WebSocket for the streams of pods: the handshake with Kubernetes' subprotocol names, and a socket as a byte stream.

import type { IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';

/** As Kubernetes' own server limits a message. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;
/** Finds out that a client is gone whose input we do not read at the moment. */
const PING_EVERY_MS = 10_000;
/** What `ws` is told in place of a subprotocol name that it takes for invalid. */
const STAND_IN = 'culvert-stand-in';

/**
 * Answers the handshake with `protocol` as the chosen subprotocol. `ws` holds to RFC 6455 §4.1, where a name has no `/`;
 * Kubernetes' `SPDY/3.1+portforward.k8s.io` has one, so `ws` sees a stand-in and the real name goes into the answer.
 */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
  onOpen: (webSocket: WebSocket) => void,
): void {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: () => STAND_IN,
  });
  server.on('headers', (headers: string[]) => {
    const at = headers.findIndex((line) => line.includes(STAND_IN));
    if (at >= 0) headers[at] = `Sec-WebSocket-Protocol: ${protocol}`;
  });
  request.headers['sec-websocket-protocol'] = STAND_IN;
  server.handleUpgrade(request, socket, head, (webSocket) => {
    webSocket.binaryType = 'nodebuffer';
    const pings = setInterval(() => {
      if (webSocket.readyState === webSocket.OPEN) webSocket.ping();
    }, PING_EVERY_MS);
    pings.unref();
    webSocket.on('error', () => {}); // followed by close
    webSocket.on('close', () => clearInterval(pings));
    onOpen(webSocket);
  });
}

/** Binary messages, one after the other, are the bytes. */
export class WebSocketBytes extends Duplex {
  readonly #webSocket: WebSocket;

  constructor(webSocket: WebSocket) {
    super({ allowHalfOpen: false });
    this.#webSocket = webSocket;
    webSocket.on('message', (message: Buffer) => {
      if (!this.push(message)) webSocket.pause();
    });
    webSocket.on('close', () => {
      if (!this.readableEnded) this.push(null);
      this.destroy();
    });
  }

  override _read(): void {
    this.#webSocket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#webSocket.send(chunk, { binary: true }, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#webSocket.close(1000);
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (error !== null) this.#webSocket.terminate();
    else this.#webSocket.close(1000);
    callback(error);
  }
}
