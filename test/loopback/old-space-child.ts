// A process of its own with V8's flags of a real one: opens and closes tunnelled connections, eight at a time, each with a
// TCP connection behind it, and prints by how many bytes the old space grew for each.

import net from 'node:net';
import { getHeapSpaceStatistics } from 'node:v8';
import { systemClock } from '#base/clock.ts';
import { Scope } from '#base/scope.ts';
import { createHbonePool } from '#hbone/pool.ts';
import { createHboneServer } from '#hbone/server.ts';
import { TcpHandle } from '#linux/tcp-handle.ts';
import type { Port } from '#net/host-port.ts';
import { silentLogger } from '#telemetry/log.ts';
import { copy } from '#ztunnel/copy.ts';
import { TcpEnd, TcpIo } from '#ztunnel/tcp.ts';
import {
  CLIENT_ID,
  dial,
  keyFor,
  LOOPBACK,
  listen,
  newAuthority,
  newSecret,
  SERVER_ID,
} from './hbone-peers.ts';

const WARM_UP = 3000;
const COUNTED = 2000;
const AT_ONCE = 8;

const scope = new Scope('old space');
const authority = await newAuthority();
const secrets = {
  client: await newSecret(authority, CLIENT_ID),
  server: await newSecret(authority, SERVER_ID),
};
const application = await listen(scope, (socket) => socket.end('answer'));
const io = new TcpIo();
const server = createHboneServer({
  secret: async () => secrets.server,
  log: silentLogger,
  scope,
  revocations: undefined,
  onRequest: (request) => {
    const handle = TcpHandle.create();
    handle.connect(application, (errno) => {
      if (errno !== undefined) throw new Error(errno);
      const counters = { forward: { value: 0 }, backward: { value: 0 } };
      copy(request.accept({}), new TcpEnd(io, handle), counters, () => {});
    });
  },
});
const listener = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => server.accept(socket));
await new Promise<void>((resolve) => listener.listen(0, LOOPBACK, resolve));
const { port } = listener.address() as net.AddressInfo;
const pool = createHbonePool({
  dial,
  secret: async () => secrets.client,
  log: silentLogger,
  scope,
  clock: systemClock,
  revocations: undefined,
});
const key = keyFor({ ip: LOOPBACK, port: port as Port });

async function one(): Promise<void> {
  const { stream } = await pool.connect(key, '10.0.0.1:80', {});
  await new Promise<void>((resolve) => {
    stream.attach({ data() {}, drain() {}, end: () => stream.end(), close: () => resolve() });
  });
}

async function connections(total: number): Promise<void> {
  let left = total;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await one();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const oldSpaceBytes = (): number =>
  getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')!.space_used_size;

await connections(WARM_UP);
(globalThis as unknown as { gc(): void }).gc();
const before = oldSpaceBytes();
await connections(COUNTED);
console.log(Math.round((oldSpaceBytes() - before) / COUNTED));
process.exit(0);
