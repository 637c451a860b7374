// Looks for plaintext: two enrolled pods on two nodes talk without end while their mesh is killed, restarted and taken apart
// around them, and the cable between the nodes is read along. What a connection says that was opened after both reported to be
// enrolled must never be readable there.

import type { Mesh } from '../e2e/harness.ts';
import { ACTIONS, LeakWorld, NAMESPACE } from './leak-actions.ts';
import { hasPlainMarker, LeakTraffic, secretIn } from './leak-traffic.ts';
import { describePacket, watchWire } from './wire.ts';

export interface HuntOptions {
  readonly cycles: number;
  readonly limitMs: number;
  /** Of ACTIONS; all unless given. */
  readonly actions?: readonly string[];
  readonly say: (text: string) => void;
}

export interface HuntResult {
  readonly cycles: number;
  readonly cyclesPerMinute: number;
  readonly connections: number;
  readonly packets: number;
  /** Plaintext of pods outside the mesh: shows that the capture would have seen it. */
  readonly plainPackets: number;
  readonly leaks: readonly string[];
  /** Cycles after which the mesh did not come back. */
  readonly problems: readonly string[];
}

const RECOVERY_LIMIT_MS = 60_000;
/** Told of in full; a leak that goes on would fill the screen. */
const TOLD_LEAKS = 20;

export async function huntLeaks(mesh: Mesh, options: HuntOptions): Promise<HuntResult> {
  const names = options.actions ?? Object.keys(ACTIONS);
  const leaks: string[] = [];
  const problems: string[] = [];
  const traffic = new LeakTraffic();
  const world = new LeakWorld(mesh, traffic);
  let plainPackets = 0;
  let now = 'the start';
  const look = (frame: Buffer): void => {
    if (hasPlainMarker(frame)) plainPackets += 1;
    const id = secretIn(frame);
    if (id === undefined) return;
    const talk = traffic.talks.get(id);
    const text = `${describePacket(frame)}: connection ${id}, ${talk?.direction}, opened ${talk?.openedAt} during "${talk?.during}", seen ${new Date().toISOString()} during "${now}"`;
    leaks.push(text);
    if (leaks.length <= TOLD_LEAKS) options.say(`LEAK ${text}`);
  };
  // The cable of the second node: whatever goes from one node to the other passes it.
  const machine = ['nsenter', '-t', String(mesh.pidOf('local')), '-n', '--'];
  const wire = await watchWire(machine, 'node2', look);
  let cycle = 0;
  const startedAt = performance.now();
  try {
    await world.start();
    world.mood('secret');
    while (cycle < options.cycles && performance.now() - startedAt < options.limitMs) {
      const name = names[cycle % names.length]!;
      // Both pods get every action, and neither always the same one.
      const place = world.places[((cycle % names.length) + Math.floor(cycle / names.length)) % 2]!;
      cycle += 1;
      now = `cycle ${cycle}: ${name} (${place.name} on ${place.node})`;
      traffic.during = now;
      const begunAt = performance.now();
      try {
        await ACTIONS[name]!(world, place);
        for (const { node } of world.places)
          for (const program of ['ztunnel', 'cni'] as const) await world.settled(program, node);
        for (const each of world.places) await world.join(each);
        world.mood('secret');
        for (const from of world.places) await traffic.flows(world.direction(from).name, RECOVERY_LIMIT_MS);
      } catch (error) {
        problems.push(`${now}: ${(error as Error).message}`);
        options.say(`PROBLEM ${problems.at(-1)}`);
        if (problems.length >= 5) break;
        world.mood('secret');
      }
      options.say(`${now}: ${((performance.now() - begunAt) / 1000).toFixed(1)} s`);
    }
  } finally {
    traffic.stop();
    world.close();
    await wire.stop();
    await mesh.kubectl('delete', 'namespace', NAMESPACE, '--wait=false');
  }
  const minutes = (performance.now() - startedAt) / 60_000;
  return {
    cycles: cycle,
    cyclesPerMinute: cycle / minutes,
    connections: traffic.talks.size,
    packets: wire.packets,
    plainPackets,
    leaks,
    problems,
  };
}
