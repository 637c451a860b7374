// One connection that a pod keeps open: an HTTP request on it five times a second, and how many were answered.

import type { Pod } from '#k8s/objects.ts';
import { type Mesh, until } from '../harness.ts';

const CLIENT = `
const [host, port] = process.argv.slice(1);
const socket = require('node:net').connect({ host, port: Number(port) });
const ask = () => socket.write('GET / HTTP/1.1\\r\\nHost: held\\r\\n\\r\\n');
socket.once('connect', () => setInterval(ask, 200));
socket.on('data', (chunk) => { if (String(chunk).includes('HTTP/1.1 ')) console.log('answered'); });
socket.on('error', (error) => console.log(error.code));
socket.on('close', () => { console.log('closed'); process.exit(0); });
`;

export interface HeldConnection {
  /** Resolves when further requests have been answered. @throws when the connection is closed. */
  goesOn(): Promise<void>;
  close(): void;
}

/** From the network of `from` on node `node`. */
export async function holdConnection(
  mesh: Mesh,
  node: string,
  from: Pod,
  to: { readonly host: string; readonly port: number },
): Promise<HeldConnection> {
  const netns = `--net=/var/run/netns/cni-${from.metadata.uid}`;
  const script = [process.execPath, '-e', CLIENT, to.host, String(to.port)];
  const child = mesh.spawnInNode(node, 'nsenter', netns, '--', ...script);
  let printed = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  const answers = (): number => printed.split('answered').length - 1;
  const held: HeldConnection = {
    async goesOn() {
      const before = answers();
      await until(() => {
        if (/closed|E[A-Z]+/.test(printed))
          throw new Error(`the held connection ended: ${printed.slice(-60)}`);
        return answers() >= before + 3;
      }, 'the held connection to be answered');
    },
    close: () => void child.kill('SIGTERM'),
  };
  await held.goesOn();
  return held;
}
