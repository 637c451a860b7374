import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workloadOf } from '#model/samples.ts';
import { createStore } from '#model/store.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { createLogger } from '#telemetry/log.ts';
import { judge } from './judge.ts';

/** Lines of a verdict at the log level info. */
function linesWith(policyInfoLogging: boolean): string[] {
  const lines: string[] = [];
  const log = createLogger('rbac', { format: 'plain', level: 'info', write: (line) => lines.push(line) });
  const denial = judge({ store: createStore({ localNode: 'n1' }), log, policyInfoLogging }, workloadOf(), {
    podUid: 'a',
    source: { ip: ip('10.0.0.1'), port: 1 as Port },
    sourceIdentity: undefined,
    destination: { ip: ip('10.0.0.2'), port: 80 as Port },
  });
  assert.equal(denial, undefined);
  return lines;
}

test('verdicts are debug lines, unless info is asked for', () => {
  assert.deepEqual(linesWith(false), []);
  const [line] = linesWith(true);
  assert.match(line ?? '', /\tinfo\trbac\tpolicy verdict\tverdict=/);
});
