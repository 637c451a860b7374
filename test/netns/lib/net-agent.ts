// One namespace's programs, for net-rig.ts: answers on TCP and UDP with its name and who asked, and asks others on command.

import dgram from 'node:dgram';
import net from 'node:net';

export interface AskCommand {
  readonly id: number;
  readonly protocol: 'tcp' | 'udp';
  readonly host: string;
  readonly port: number;
  readonly sourcePort?: number;
  /** For how long no answer is waited for before it counts as silence; long, unless silence is what is expected. */
  readonly patienceMs?: number;
}

const [name, ports = ''] = process.argv.slice(2);
const PATIENCE_MS = 15_000;

for (const port of ports.split(',').filter(Boolean).map(Number)) {
  for (const where of [{ host: '0.0.0.0' }, { host: '::', ipv6Only: true }])
    net
      .createServer((socket) => {
        socket.on('error', () => {});
        socket.end(`${name}:${port} ${socket.remoteAddress}`);
      })
      .listen({ port, ...where });
  for (const type of ['udp4', 'udp6'] as const) {
    const udp = dgram.createSocket({ type, ipv6Only: type === 'udp6' });
    udp.on('message', (_, from) => udp.send(`${name}:${port} ${from.address}`, from.port, from.address));
    udp.bind(port);
  }
}

function askTcp({ host, port, sourcePort, patienceMs = PATIENCE_MS }: AskCommand): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = net.connect({
      host,
      port,
      ...(sourcePort === undefined ? {} : { localPort: sourcePort }),
    });
    socket.setTimeout(patienceMs, () => {
      resolve('silence');
      socket.destroy();
    });
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('end', () => resolve(text));
  });
}

function askUdp({ host, port, sourcePort, patienceMs = PATIENCE_MS }: AskCommand): Promise<string> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket({ type: net.isIPv6(host) ? 'udp6' : 'udp4', reuseAddr: true });
    const finish = (text: string): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on('error', () => {});
      socket.close();
      resolve(text);
    };
    const timer = setTimeout(() => finish('silence'), patienceMs);
    socket.on('message', (answer) => finish(String(answer)));
    socket.on('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.bind(sourcePort ?? 0, () => socket.connect(port, host, () => socket.send('?')));
  });
}

process.on('message', (command: AskCommand) => {
  const answer = command.protocol === 'tcp' ? askTcp(command) : askUdp(command);
  void answer.then((text) => process.send?.({ id: command.id, text }));
});
process.on('disconnect', () => process.exit(0));
process.send?.({ id: 0, text: 'ready' });
