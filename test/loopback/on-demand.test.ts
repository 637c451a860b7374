// A proxy that knows nothing but its own node until a connection asks: against a control plane that answers by script.

import assert from 'node:assert/strict';
import type net from 'node:net';
import { after, before, test } from 'node:test';
import type { Workload } from '#model/workload.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { decodeDeltaRequest, encodeDeltaResponse } from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import type { OpenXdsStream } from '#xds/transport.ts';
import { until } from '../lib/until.ts';
import {
  application,
  ownAddress,
  readAll,
  startPlane,
  type TestAuthority,
  type TestPlane,
  testAuthority,
  workload,
} from './ztunnel-rig.ts';

const CLIENT = ownAddress(2);
const SERVER = ownAddress(3);
const STRANGER = ownAddress(4);
const MUTE = ownAddress(5);

let authority: TestAuthority;
let one: TestPlane;
let two: TestPlane;
let port: number;
let strangerPort: number;
const servers: net.Server[] = [];
const asked: string[] = [];
const cart = workload('cart', CLIENT, 'n1');
const stock = workload('stock', SERVER, 'n2');

/** Answers for `stock`, says that nothing else is there, and nothing at all about MUTE. */
const openXds: OpenXdsStream = (handlers) => {
  const respond = (typeUrl: string, workloads: readonly Workload[], removed: readonly string[] = []): void =>
    void setImmediate(() =>
      handlers.message(
        encodeDeltaResponse({
          systemVersionInfo: '',
          typeUrl,
          nonce: 'n',
          removed,
          resources: workloads.map((one) => ({
            name: one.uid,
            version: '1',
            typeUrl,
            value: encodeAddress({ kind: 'workload', workload: one }),
            aliases: one.ips.map((ip) => `/${ip}`),
          })),
        }),
      ),
    );
  return {
    send: (bytes) => {
      const { typeUrl, node, subscribe } = decodeDeltaRequest(bytes);
      if (typeUrl === AUTHORIZATION_TYPE_URL) return node === undefined ? undefined : respond(typeUrl, []);
      if (node !== undefined) return respond(ADDRESS_TYPE_URL, [cart]);
      for (const name of subscribe) {
        asked.push(name);
        if (name === `/${SERVER}`) respond(ADDRESS_TYPE_URL, [stock]);
        else if (name !== `/${MUTE}`) respond(ADDRESS_TYPE_URL, [], [name]);
      }
    },
    close: () => {},
  };
};

before(async () => {
  authority = await testAuthority();
  const echo = (socket: net.Socket): void => void socket.pipe(socket);
  const apps = [
    await application(SERVER, echo),
    await application(STRANGER, echo),
    await application(MUTE, echo),
  ];
  servers.push(...apps.map(({ server }) => server));
  port = apps[0]!.port;
  strangerPort = apps[1]!.port;
  one = await startPlane('n1', authority.client, { xdsOnDemand: true }, { openXds });
  two = await startPlane('n2', authority.client);
  two.plane.store.apply({
    addresses: [cart, stock].map((workload) => ({ kind: 'workload', workload })),
  });
  await until('readiness', () => one.plane.readiness.pending().length === 0);
  await one.addPod(cart);
  await two.addPod(stock);
});

after(() => {
  for (const server of servers) server.close();
  one?.plane.close();
  two?.plane.close();
});

async function ask(destination: string): Promise<string> {
  const socket = one.capture.dialFrom(CLIENT, destination);
  const answer = readAll(socket);
  socket.end('hello');
  return String(await answer);
}

test('the destination is asked for, and then reached through a tunnel like any other', async () => {
  assert.equal(one.plane.store.workload(stock.uid), undefined);
  assert.equal(await ask(`${SERVER}:${port}`), 'hello');
  await until('the line', () => one.access(`dst.hbone_addr=${SERVER}:${port}`).length === 1);
  assert.equal(await ask(`${SERVER}:${port}`), 'hello');
  assert.deepEqual(asked, [`/${SERVER}`]);
});

test('what the control plane does not know is passed through', async () => {
  assert.equal(await ask(`${STRANGER}:${strangerPort}`), 'hello');
  assert.equal(asked.at(-1), `/${STRANGER}`);
});

test('without an answer nothing is sent, least of all in plaintext', async () => {
  assert.equal(await ask(`${MUTE}:80`), '');
  await until('the line', () => one.access('XDS_SILENT', MUTE).length === 1);
});
