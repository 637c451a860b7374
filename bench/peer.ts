// The far end of every benchmark: one TCP server. The first byte of a connection says what it wants:
//   'e' echo requests: every 1,024-byte message is answered by 1,024 bytes
//   's' stream down: the server sends as fast as it can until the client closes
//   'u' stream up: the server takes what comes
//   'c' connect: one 1,024-byte answer, then the server closes

import { createServer, type Socket } from 'node:net';

export const MESSAGE_BYTES = 1024;
const answer = Buffer.alloc(MESSAGE_BYTES, 'a');
const block = Buffer.alloc(256 * 1024, 'b');

function echo(socket: Socket, first: number): void {
  let pending = first;
  const reply = (): void => {
    for (; pending >= MESSAGE_BYTES; pending -= MESSAGE_BYTES) socket.write(answer);
  };
  socket.on('data', (chunk: Buffer) => {
    pending += chunk.length;
    reply();
  });
  reply();
}

function stream(socket: Socket): void {
  const fill = (): void => {
    while (!socket.destroyed && socket.write(block));
  };
  socket.on('drain', fill);
  fill();
}

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  socket.once('data', (chunk: Buffer) => {
    const mode = String.fromCharCode(chunk[0] ?? 0);
    if (mode === 'e') echo(socket, chunk.length - 1);
    else if (mode === 's') stream(socket);
    else if (mode === 'u') socket.resume();
    else socket.end(answer);
  });
});
server.listen(9000, () => console.log('peer: listening on 9000'));
process.on('SIGTERM', () => process.exit(0));
