// The node's CNI configuration as a cluster's network leaves it: one list, which agents chain their plugin to. The network
// itself is built into the kubelet (`net/pod-network.ts`), so its entry names no program.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const PRIMARY_PLUGIN = 'culvert-network';
const FILE = '10-culvert-network.conflist';

/** Left alone where it is: what agents have chained to it outlives a restart, as on a disk. */
export function ensurePrimaryConfig(netDir: string): void {
  const names = readdirSync(netDir).filter((name) => name.endsWith('.conflist'));
  if (names.some((name) => readFileSync(join(netDir, name), 'utf8').includes(`"${PRIMARY_PLUGIN}"`))) return;
  const list = { cniVersion: '1.0.0', name: 'culvert-network', plugins: [{ type: PRIMARY_PLUGIN }] };
  writeFileSync(join(netDir, FILE), `${JSON.stringify(list, undefined, 2)}\n`, { mode: 0o644 });
}
