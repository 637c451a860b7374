// The ledger: a server-first TCP protocol. It greets before the client has said a word, which a proxy that waits to
// sniff the protocol would never get past.

import { createServer } from 'node:net';

let entries = 0;

const server = createServer({ allowHalfOpen: true }, (socket) => {
  console.log(`ledger: connection from ${socket.remoteAddress}:${socket.remotePort}`);
  socket.setEncoding('utf8');
  socket.write('ledger ready\n');
  let line = '';
  socket.on('data', (chunk: string) => {
    line += chunk;
  });
  socket.on('end', () => {
    const booked = /^book (\d+)$/.exec(line.trim());
    if (booked === null) {
      socket.end('error: expected "book CENTS"\n');
      return;
    }
    entries += 1;
    socket.end(`entry ${entries}: ${booked[1]} cents\n`);
  });
  socket.on('error', (error) => console.log(`ledger: ${error.message}`));
});
server.listen(7000, () => console.log('ledger: listening on 7000'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
