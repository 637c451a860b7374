// Probes of pods with a branch interface (security groups for pods on AWS), in a namespace with the rules of the VPC CNI made by hand.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { createBranchEni, hasEarlyDemuxOff } from '#cni/branch-eni.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { ip } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { silentLogger } from '#telemetry/log.ts';

const NODE = `cvbre${process.pid}n`;
const sh = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
let netnsFd: number;

before(() => {
  // As the VPC CNI has it: a table for each branch interface with the pod's own address, looked up by what the pod sends.
  sh(`ip netns add ${NODE}
    ip -n ${NODE} link set lo up
    ip -n ${NODE} link add vlan1 type veth peer name eni2
    for name in vlan1 eni2; do ip -n ${NODE} link set $name up; done
    ip -n ${NODE} route add 10.0.7.1/32 dev vlan1 table 101
    ip -n ${NODE} route add 10.0.7.0/24 dev vlan1 table 101
    ip -n ${NODE} rule add iif vlan1 lookup 101 priority 10
    ip -n ${NODE} -6 route add fd00:7::1/128 dev vlan1 table 301
    ip -n ${NODE} -6 rule add iif vlan1 lookup 301 priority 10
    ip -n ${NODE} route add 10.0.7.2/32 dev eni2
    ip -n ${NODE} rule add iif eni2 lookup main priority 20`);
  netnsFd = openNetns(`/var/run/netns/${NODE}`);
});

after(() => {
  closeFd(netnsFd);
  sh(`ip netns del ${NODE}`);
});

const rules = (family: '-4' | '-6'): string[] =>
  sh(`ip -n ${NODE} ${family} rule`)
    .trim()
    .split('\n')
    .map((line) => line.replace(/\s+/g, ' ').trim());

test('the way to the pod and back, for both families, once; gone with the pod, as it was found', () => {
  const warned: string[] = [];
  const log: Logger = { ...silentLogger, warn: (text) => void warned.push(text) };
  const found = [rules('-4'), rules('-6')];
  const eni = createBranchEni(log, netnsFd);
  const ips = [ip('10.0.7.1'), ip('fd00:7::1')];
  eni.set('a', ips);
  eni.set('a', ips);
  assert.deepEqual(rules('-4'), [
    '0: from all lookup local',
    '9: from all iif vlan1 lookup local',
    '10: from all iif vlan1 lookup 101',
    '20: from all iif eni2 lookup main',
    '512: from all to 10.0.7.1 lookup 101',
    '32766: from all lookup main',
    '32767: from all lookup default',
  ]);
  assert.deepEqual(
    rules('-6').filter((rule) => /^(9|512):/.test(rule)),
    ['9: from all iif vlan1 lookup local', '512: from all to fd00:7::1 lookup 301'],
  );
  // Ordinary pods: a route in the main table, or none.
  eni.set('b', [ip('10.0.7.2')]);
  eni.set('c', [ip('10.0.7.3')]);
  assert.equal(rules('-4').length, 7);

  // The VPC CNI may be faster.
  sh(`ip -n ${NODE} rule del iif vlan1 lookup 101 priority 10`);
  for (const uid of ['a', 'b', 'a']) eni.remove(uid);
  sh(`ip -n ${NODE} rule add iif vlan1 lookup 101 priority 10`);
  assert.deepEqual([rules('-4'), rules('-6')], found);
  assert.deepEqual(warned, []);
});

test('a failure is told of and leaves nothing half done', () => {
  const warned: string[] = [];
  const log: Logger = { ...silentLogger, warn: (text) => void warned.push(text) };
  createBranchEni(log, -1).set('a', [ip('10.0.7.1')]);
  assert.equal(warned.length, 1);
  assert.equal(hasEarlyDemuxOff('/does-not-exist'), false);
});
