// Steady load from wherever it is started: GET requests, each on a connection of its own, so many a second, until
// standard input ends. Prints `started`, and at the end one JSON line with what became of them.
//
//     node request-load.ts URL REQUESTS_PER_SECOND

import { get } from 'node:http';

export interface LoadResult {
  readonly answered: number;
  /** Reason → how often. */
  readonly failed: Readonly<Record<string, number>>;
  /** Host names of the servers that answered. */
  readonly servers: readonly string[];
}

const [url = '', rate = '0'] = process.argv.slice(2);
const failed: Record<string, number> = {};
const servers = new Set<string>();
let answered = 0;
let sent = 0;
let pending = 0;
let isEnding = false;
const startedMs = performance.now();

function request(): void {
  pending += 1;
  let isDone = false;
  const done = (reason?: string): void => {
    if (isDone) return;
    isDone = true;
    pending -= 1;
    if (reason === undefined) answered += 1;
    else failed[reason] = (failed[reason] ?? 0) + 1;
    if (isEnding && pending === 0) report();
  };
  const call = get(url, { agent: false, timeout: 30_000 }, (response) => {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (text: string) => {
      body += text;
    });
    response.on('error', (error: NodeJS.ErrnoException) => done(`answer cut: ${error.code}`));
    response.on('end', () => {
      servers.add(body.trim());
      done(response.statusCode === 200 ? undefined : `HTTP ${response.statusCode}`);
    });
  });
  call.on('timeout', () => call.destroy(new Error('no answer in 30 s')));
  call.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
}

function report(): void {
  const result: LoadResult = { answered, failed, servers: [...servers] };
  console.log(JSON.stringify(result));
  process.exit(0);
}

// By the clock, so that a busy machine delays requests but does not lose them.
const timer = setInterval(() => {
  const due = ((performance.now() - startedMs) / 1000) * Number(rate);
  while (sent < due && pending < 1000) {
    sent += 1;
    request();
  }
}, 5);

process.stdin.resume();
process.stdin.on('end', () => {
  isEnding = true;
  clearInterval(timer);
  if (pending === 0) report();
});
console.log('started');
