// `npm run leak-hunt [-- --cycles N] [--minutes N] [ACTION…]`: 200 cycles of killing, restarting, enrolling and taking apart, with
// the cable between two nodes read along (leaks.ts). Exit status 0: no secret was readable there, and the mesh always came back.

import { parseArgs } from 'node:util';
import { startMesh } from '../e2e/harness.ts';
import { ACTIONS } from './leak-actions.ts';
import { huntLeaks } from './leaks.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    cycles: { type: 'string', default: '200' },
    minutes: { type: 'string', default: '60' },
  },
});
const cycles = Number(values.cycles);
const minutes = Number(values.minutes);
const unknown = positionals.filter((name) => ACTIONS[name] === undefined);
if (!(cycles > 0) || !(minutes > 0) || unknown.length > 0) {
  console.error(
    `leak-hunt: --cycles and --minutes are numbers above 0, actions are ${Object.keys(ACTIONS)
      .map((name) => JSON.stringify(name))
      .join(', ')}`,
  );
  process.exit(2);
}
if (process.getuid?.() !== 0) {
  console.error('leak-hunt: run it as root: it reads the wire of the machine and works in pods');
  process.exit(2);
}

const mesh = await startMesh({ sample: false });
try {
  // Connections that a pod leaves behind are cut soon: that, too, must not show what they say.
  await mesh.kubectl(
    ...['set', 'env', '-n', 'istio-system', 'daemonset/istio-cni-node', 'CULVERT_UNENROL_DRAIN_SECONDS=1'],
  );
  await mesh.kubectl('rollout', 'status', '-n', 'istio-system', 'daemonset/istio-cni-node');
  const result = await huntLeaks(mesh, {
    cycles,
    limitMs: minutes * 60_000,
    ...(positionals.length === 0 ? {} : { actions: positionals }),
    say: (text) => console.log(`leak-hunt: ${text}`),
  });
  console.log(
    `leak-hunt: ${result.cycles} cycles, ${result.cyclesPerMinute.toFixed(1)} a minute; ${result.connections} connections, ${result.packets} packets on the wire (${result.plainPackets} of pods outside the mesh readable); ${result.leaks.length} packets leaked, ${result.problems.length} times the mesh did not come back`,
  );
  process.exitCode = result.leaks.length + result.problems.length === 0 && result.cycles >= cycles ? 0 : 1;
} finally {
  await mesh.stop();
}
