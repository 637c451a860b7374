// Opens new connections at a fixed rate, one small exchange each, and prints twice a second how many were done and how
// many failed: `prober.ts HOST CONNECTIONS_PER_S`. The far end is peer.ts.

import { connect } from 'node:net';

const ANSWER_BYTES = 1024;
const LIMIT_MS = 5000;
const [host = '', rateText = '1000'] = process.argv.slice(2);
const rate = Number(rateText);

let done = 0;
let failed = 0;
const errors: Record<string, number> = {};

function probe(): void {
  let received = 0;
  let ended = false;
  const end = (error?: string): void => {
    if (ended) return;
    ended = true;
    done += 1;
    if (error !== undefined) {
      failed += 1;
      errors[error] = (errors[error] ?? 0) + 1;
    }
    // No waiting for old segments: a minute of them would use up the ports.
    socket.resetAndDestroy();
  };
  const socket = connect({ host, port: 9000, noDelay: true }, () => socket.write('c'));
  socket.setTimeout(LIMIT_MS, () => end(`no answer in ${LIMIT_MS / 1000} s`));
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (received >= ANSWER_BYTES) end();
  });
  socket.on('error', (error: NodeJS.ErrnoException) => end(`${error.code} after ${received} bytes`));
  socket.on('end', () => end(`ended after ${received} bytes`));
}

let owed = 0;
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  owed = Math.min(owed + ((now - last) / 1000) * rate, rate / 10);
  last = now;
  for (; owed >= 1; owed -= 1) probe();
}, 1);
setInterval(() => console.log(JSON.stringify({ done, failed, errors })), 500);
process.on('SIGTERM', () => process.exit(0));
