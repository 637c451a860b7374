// What a process holds, seen from outside: memory, descriptors, threads; and, of a ztunnel, what its event loop waits for.

import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import net from 'node:net';
import { closeFd, openNetns } from '#linux/netns.ts';
import { tcpSocket } from '#linux/socket.ts';
import { memoryOf } from '../../bench/lib/process.ts';

/** Name → amount at one moment. */
export type Sample = Readonly<Record<string, number>>;

export function sampleProcess(pid: number): Sample {
  const { privateKiB, pssKiB } = memoryOf(pid);
  const sockets = descriptorsOf(pid).filter((target) => target.startsWith('socket:')).length;
  const threads = Number(/^Threads:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  return { privateKiB, pssKiB, descriptors: descriptorsOf(pid).length, sockets, threads };
}

export function descriptorsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed while we looked
    }
  });
}

/** The body of a GET on ztunnel's admin port, asked from within its network namespace. */
export async function askAdmin(pid: number, path: string): Promise<string> {
  const netnsFd = openNetns(`/proc/${pid}/ns/net`);
  const fd = tcpSocket({ family: 4, netnsFd });
  closeFd(netnsFd);
  const socket = new net.Socket({ fd } as net.SocketConstructorOpts).connect({
    host: '127.0.0.1',
    port: 15_000,
  });
  socket.end(`GET ${path} HTTP/1.1\r\nhost: ztunnel\r\nconnection: close\r\n\r\n`);
  let text = '';
  socket.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  await once(socket, 'end');
  const [head = '', ...body] = text.split('\r\n\r\n');
  if (!head.startsWith('HTTP/1.1 200')) throw new Error(`${path}: ${head.split('\r\n')[0]}`);
  return body.join('\r\n\r\n');
}

/** `/debug/resources`: listeners, sockets and timers of the event loop by kind. */
export async function sampleResources(pid: number): Promise<Sample> {
  const counts = JSON.parse(await askAdmin(pid, '/debug/resources')) as Record<string, number>;
  return { listeners: counts.TCPServerWrap ?? 0, timers: counts.Timeout ?? 0 };
}
