import assert from 'node:assert/strict';
import { type Mesh, until } from '../harness.ts';
import { type Evidence, getScript, podNamed, runInPod } from './evidence.ts';

/** Captures everything n2 sees (every interface) while `work` runs; returns the raw packets. */
async function capture(mesh: Mesh, work: () => Promise<void>): Promise<Buffer> {
  const tcpdump = mesh.spawnInNode(
    'n2',
    'tcpdump',
    '--immediate-mode',
    '-U',
    '-n',
    '-i',
    'any',
    '-s',
    '0',
    '-w',
    '-',
    'tcp',
  );
  const chunks: Buffer[] = [];
  let words = '';
  tcpdump.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  tcpdump.stderr?.on('data', (chunk: Buffer) => {
    words += chunk.toString();
  });
  await until(() => /listening on/.test(words), `tcpdump to listen (${words})`);
  await work();
  tcpdump.kill('SIGINT');
  await until(() => tcpdump.exitCode !== null || tcpdump.signalCode !== null, 'tcpdump to end');
  return Buffer.concat(chunks);
}

export const evidence: Evidence = {
  id: 'M2',
  title: 'mTLS between all enrolled pods: a capture between the nodes shows only TLS on port 15008',
  async show(mesh, say) {
    const catalog = await podNamed(mesh, 'shop', 'catalog');
    const ask = (namespace: string, marker: string) => async (): Promise<void> => {
      const printed = await runInPod(mesh, {
        name: marker.toLowerCase(),
        namespace,
        node: 'n1',
        script: getScript(`http://${catalog.status?.podIP}:8080/?${marker}`),
      });
      assert.match(printed, /^200 /, `the request of ${marker} was answered`);
    };
    const inside = await capture(mesh, ask('shop', 'MARKER-INSIDE'));
    assert.equal(
      inside.includes('MARKER-INSIDE'),
      false,
      'the payload of an enrolled pod is nowhere on the wire',
    );
    assert.ok(inside.includes(Buffer.from([0x3a, 0xa0])), 'packets of port 15008 were captured');
    say(
      `enrolled → enrolled: ${inside.length} bytes captured on n2, the payload's marker nowhere among them`,
    );
    const outside = await capture(mesh, ask('default', 'MARKER-OUTSIDE'));
    assert.equal(outside.includes('MARKER-OUTSIDE'), true, 'the capture would have shown it');
    say('not enrolled → enrolled, for comparison: the marker is there to read');
  },
};
