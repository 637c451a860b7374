// The near end of every benchmark: a closed-loop client without any correction for coordinated omission. Prints `begin`
// and `end` around the measured part, so that the driver can read CPU time at the same moments, then one JSON result.
//   load.ts HOST latency CONNECTIONS SECONDS        every connection sends its next request when the answer is in
//   load.ts HOST rate REQUESTS_PER_S SECONDS        16 connections, requests started on a fixed schedule
//   load.ts HOST down STREAMS SECONDS               bytes per second towards the client
//   load.ts HOST up STREAMS SECONDS                 bytes per second towards the server
//   load.ts HOST connect CONCURRENCY SECONDS        new connections per second, one small exchange each
//   load.ts HOST quiet CONNECTIONS SECONDS          so many connections more between `begin` and `end`, one exchange each;
//                                                   SECONDS has no meaning

import { connect, type Socket } from 'node:net';

const MESSAGE_BYTES = 1024;
const WARM_UP_MS = 3000;
/** Open before the first memory is read, so that what the first ones cost once is not counted. */
const QUIET_BEFORE = 500;
const QUIET_AT_ONCE = 20;
/** Time for a proxy's collector to find what opening them left behind. */
const QUIET_SETTLE_MS = 10_000;
/** Time for the driver to read memory after `end`. */
const QUIET_LINGER_MS = 3000;
const message = Buffer.alloc(MESSAGE_BYTES, 'q');
const block = Buffer.alloc(256 * 1024, 'u');
const [host = '', mode = '', amountText = '1', secondsText = '4'] = process.argv.slice(2);
const amount = Number(amountText);
const measuredMs = Number(secondsText) * 1000;

const samplesUs: number[] = [];
let counting = false;
let count = 0;
let bytes = 0;
let stopping = false;

function open(kind: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: 9000, noDelay: true });
    socket.once('connect', () => {
      socket.write(kind);
      resolve(socket);
    });
    socket.on('error', reject);
  });
}

/** One request on a connection that carries nothing else meanwhile. */
function exchange(socket: Socket): Promise<void> {
  const startedAt = process.hrtime.bigint();
  return new Promise((resolve) => {
    let received = 0;
    const onData = (chunk: Buffer): void => {
      received += chunk.length;
      if (received < MESSAGE_BYTES) return;
      socket.off('data', onData);
      if (counting) {
        samplesUs.push(Number(process.hrtime.bigint() - startedAt) / 1000);
        count += 1;
      }
      resolve();
    };
    socket.on('data', onData);
    socket.write(message);
  });
}

async function latency(): Promise<void> {
  const loops = Array.from({ length: amount }, async () => {
    const socket = await open('e');
    while (!stopping) await exchange(socket);
    socket.destroy();
  });
  await measure();
  await Promise.all(loops);
}

async function rate(): Promise<void> {
  const idle = await Promise.all(Array.from({ length: 16 }, () => open('e')));
  let owed = 0;
  let last = performance.now();
  const tick = setInterval(() => {
    const now = performance.now();
    owed += ((now - last) / 1000) * amount;
    last = now;
    for (; owed >= 1; owed -= 1) {
      const socket = idle.pop();
      if (socket === undefined) break;
      void exchange(socket).then(() => idle.push(socket));
    }
  }, 1);
  await measure();
  clearInterval(tick);
  for (const socket of idle) socket.destroy();
}

async function down(): Promise<void> {
  const sockets = await Promise.all(Array.from({ length: amount }, () => open('s')));
  for (const socket of sockets) {
    socket.on('data', (chunk: Buffer) => {
      if (counting) bytes += chunk.length;
    });
  }
  await measure();
  for (const socket of sockets) socket.destroy();
}

async function up(): Promise<void> {
  const sockets = await Promise.all(Array.from({ length: amount }, () => open('u')));
  for (const socket of sockets) {
    // A block counts when the kernel has it; what lies in buffers is as much at the end as at the beginning.
    const next = (): void => {
      if (counting) bytes += block.length;
      socket.write(block, next);
    };
    socket.write(block, next);
    socket.write(block, next);
  }
  await measure();
  for (const socket of sockets) socket.destroy();
}

/** Connections that nobody uses: each had one exchange, and is left alone. */
async function quiet(): Promise<void> {
  let left = 0;
  const sockets: Socket[] = [];
  const openSome = async (number: number): Promise<void> => {
    left = number;
    const opener = async (): Promise<void> => {
      while (left-- > 0) {
        const socket = await open('e');
        await exchange(socket);
        sockets.push(socket);
      }
    };
    await Promise.all(Array.from({ length: QUIET_AT_ONCE }, opener));
    await new Promise((resolve) => setTimeout(resolve, QUIET_SETTLE_MS));
  };
  await openSome(QUIET_BEFORE);
  console.log('begin');
  await openSome(amount);
  console.log('end');
  const seconds = QUIET_SETTLE_MS / 1000;
  console.log(`result ${JSON.stringify({ seconds, requests: 0, bytes: 0, p50Us: 0, p90Us: 0, p99Us: 0 })}`);
  await new Promise((resolve) => setTimeout(resolve, QUIET_LINGER_MS));
  for (const socket of sockets) socket.destroy();
}

async function connections(): Promise<void> {
  const loops = Array.from({ length: amount }, async () => {
    while (!stopping) {
      const socket = await open('c');
      let received = 0;
      await new Promise<void>((resolve) => {
        socket.on('close', () => resolve());
        socket.on('data', (chunk: Buffer) => {
          received += chunk.length;
        });
      });
      // A proxy that refuses would be the fastest.
      if (received !== MESSAGE_BYTES)
        throw new Error(`a connection ended with ${received} bytes of its answer`);
      if (counting) count += 1;
    }
  });
  await measure();
  await Promise.all(loops);
}

/** Warm-up, then the measured part. */
async function measure(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
  console.log('begin');
  counting = true;
  const startedAt = performance.now();
  await new Promise((resolve) => setTimeout(resolve, measuredMs));
  counting = false;
  stopping = true;
  const seconds = (performance.now() - startedAt) / 1000;
  console.log('end');
  samplesUs.sort((a, b) => a - b);
  const quantile = (q: number): number =>
    Math.round(samplesUs[Math.min(samplesUs.length - 1, Math.floor(q * samplesUs.length))] ?? 0);
  console.log(
    `result ${JSON.stringify({
      seconds,
      requests: count,
      bytes,
      p50Us: quantile(0.5),
      p90Us: quantile(0.9),
      p99Us: quantile(0.99),
    })}`,
  );
}

const modes: Readonly<Record<string, () => Promise<void>>> = {
  latency,
  rate,
  down,
  up,
  connect: connections,
  quiet,
};
const chosen = modes[mode];
if (chosen === undefined) {
  console.error(`load: unknown mode ${JSON.stringify(mode)}; one of ${Object.keys(modes).join(', ')}`);
  process.exit(2);
}
await chosen();
process.exit(0);
