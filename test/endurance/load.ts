// Steady mixed traffic out of a pod towards bench/peer.ts, until it is ended. Twice a second one JSON line says what there was
// since the start, so that whoever follows the log sees the moment at which something stopped or came back.
//   load.ts HOST mixed           500 requests/s on 8 connections, 20 new connections/s, 2 streams of 2 MB/s each
//   load.ts HOST echo COUNT      COUNT connections with 5 requests/s each
//   load.ts HOST hold COUNT      COUNT connections that are opened at once and kept
//   load.ts HOST slow            one stream of which 1 KB/s is read

import { connect, type Socket } from 'node:net';

const MESSAGE_BYTES = 1024;
/** What a client waits for an answer; longer than any fault lasts, so that what is late is not counted as lost. */
const PATIENCE_MS = 20_000;
const AFTER_FAILURE_MS = 50;
const message = Buffer.alloc(MESSAGE_BYTES, 'q');

export interface Tick {
  readonly atMs: number;
  readonly requests: number;
  readonly connects: number;
  readonly bytes: number;
  readonly open: number;
  readonly failed: Readonly<Record<string, number>>;
}

const [host = '', mode = '', countText = '1'] = process.argv.slice(2);
const count = Number(countText);
const failed: Record<string, number> = {};
let requests = 0;
let connects = 0;
let bytes = 0;
let open = 0;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function dial(kind: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: 9000, noDelay: true });
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('no answer')));
    socket.once('connect', () => {
      open++;
      socket.write(kind);
      resolve(socket);
    });
    socket.on('error', reject);
    socket.once('close', () => {
      if (socket.bytesWritten > 0) open--;
      reject(new Error('closed'));
    });
  });
}

function answer(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let received = 0;
    const finish = (error?: Error): void => {
      socket.off('data', onData).off('error', finish).off('close', onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onData = (chunk: Buffer): void => {
      received += chunk.length;
      if (received >= MESSAGE_BYTES) finish();
    };
    const onClose = (): void => finish(new Error('closed'));
    socket.on('data', onData).on('error', finish).on('close', onClose);
  });
}

async function ever(work: () => Promise<void>): Promise<never> {
  for (;;) {
    try {
      await work();
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
      failed[reason] = (failed[reason] ?? 0) + 1;
      await pause(AFTER_FAILURE_MS);
    }
  }
}

/** Requests on one connection at a fixed pace; what is late is not made up for. */
async function exchanges(everyMs: number): Promise<void> {
  const socket = await dial('e');
  try {
    for (;;) {
      const nextMs = performance.now() + everyMs;
      const answered = answer(socket);
      socket.write(message);
      await answered;
      requests++;
      await pause(nextMs - performance.now());
    }
  } finally {
    socket.destroy();
  }
}

async function newConnection(): Promise<void> {
  const socket = await dial('c');
  await answer(socket);
  connects++;
  socket.destroy();
}

/** Takes `bytesPerS` of what the server sends. */
async function stream(bytesPerS: number): Promise<void> {
  const socket = await dial('s');
  const stepMs = 100;
  let owed = 0;
  const timer = setInterval(() => {
    owed = Math.min(owed + (bytesPerS * stepMs) / 1000, bytesPerS);
    if (owed > 0) socket.resume();
  }, stepMs);
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    owed -= chunk.length;
    if (owed <= 0) socket.pause();
  });
  // A reader that takes its time is not a connection that is dead.
  socket.setTimeout(0);
  const closed = new Promise<void>((_, reject) => {
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
  });
  try {
    await closed;
  } finally {
    clearInterval(timer);
  }
}

async function hold(): Promise<void> {
  const socket = await dial('e');
  socket.setTimeout(0);
  socket.write(message);
  await answer(socket);
  connects++;
  await new Promise<void>((_, reject) => socket.once('close', () => reject(new Error('closed'))));
}

const MODES: Readonly<Record<string, () => void>> = {
  mixed: () => {
    for (let each = 0; each < 8; each++) void ever(() => exchanges(16));
    for (let each = 0; each < 4; each++) void ever(() => newConnection().then(() => pause(200)));
    for (let each = 0; each < 2; each++) void ever(() => stream(2_000_000));
  },
  echo: () => {
    for (let each = 0; each < count; each++) void ever(() => exchanges(200));
  },
  hold: () => {
    for (let each = 0; each < count; each++) void ever(hold);
  },
  slow: () => void ever(() => stream(1024)),
};

const chosen = MODES[mode];
if (chosen === undefined) {
  console.error(`load: unknown mode ${JSON.stringify(mode)}; one of ${Object.keys(MODES).join(', ')}`);
  process.exit(2);
}
chosen();
setInterval(() => {
  console.log(JSON.stringify({ atMs: Date.now(), requests, connects, bytes, open, failed } satisfies Tick));
}, 500);
process.on('SIGTERM', () => process.exit(0));
