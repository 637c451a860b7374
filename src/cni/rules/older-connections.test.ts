import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TcpSocket, TcpState } from '#linux/tcp-sockets.ts';
import { ip } from '#net/ip.ts';
import { carriedConnections } from './older-connections.ts';

const socket = (local: string, remote: string, mark = 0, state: TcpState = 'established'): TcpSocket => {
  const end = (text: string): [string, number] => {
    const at = text.lastIndexOf(':');
    return [text.slice(0, at), Number(text.slice(at + 1))];
  };
  const [localIp, localPort] = end(local);
  const [remoteIp, remotePort] = end(remote);
  const handle = { family: 2, id: Buffer.alloc(48) };
  return { state, localIp: ip(localIp), localPort, remoteIp: ip(remoteIp), remotePort, mark, handle };
};
const told = (...sockets: TcpSocket[]): string[] =>
  carriedConnections(sockets).map(({ direction, remote }) => `${direction} ${remote.ip}:${remote.port}`);

test('inbound where the port is listened to, outbound elsewhere', () => {
  assert.deepEqual(
    told(
      socket('0.0.0.0:8080', '0.0.0.0:0', 0, 'listening'),
      socket('10.0.0.1:8080', '10.0.0.2:40000'),
      socket('10.0.0.1:40001', '10.0.0.2:5432'),
      socket('fd00::1:9090', 'fd00::2:40002', 0, 'accepting'),
      socket('10.0.0.1:40003', '10.0.0.3:80', 0, 'connecting'),
      socket('10.0.0.1:40004', '10.0.0.3:81', 0, 'closing'),
    ),
    [
      'inbound 10.0.0.2:40000',
      'outbound 10.0.0.2:5432',
      'inbound fd00::2:40002',
      'outbound 10.0.0.3:80',
      'outbound 10.0.0.3:81',
    ],
  );
});

test('what goes past ztunnel anyhow, and what ztunnel carries, does not count', () => {
  assert.deepEqual(
    told(
      socket('127.0.0.1:40000', '127.0.0.1:8080'),
      socket('10.0.0.1:8080', '169.254.7.127:50000'),
      socket('fd00::1:8080', 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff:50000'),
      socket('10.0.0.1:15008', '10.0.0.9:50000', 0x539),
      socket('10.0.0.1:40001', '10.0.0.9:15008', 0xa539),
      // The application with itself by its own address: both ends are here.
      socket('10.0.0.1:40002', '10.0.0.1:8080'),
      socket('10.0.0.1:8080', '10.0.0.1:40002'),
      // ztunnel towards the application, in the name of the client.
      socket('10.0.0.7:40003', '10.0.0.1:8080', 0x539),
      socket('10.0.0.1:8080', '10.0.0.7:40003'),
    ),
    [],
  );
});
