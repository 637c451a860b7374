// The node proxy's side of xDS with a control plane that may say anything: every message is answered or ends the stream, and what
// the store then holds can be decided upon.

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Scope } from '#base/scope.ts';
import { route } from '#model/route.ts';
import { workloadOf } from '#model/samples.ts';
import { createStore, type Store } from '#model/store.ts';
import type { OriginalDst, Port } from '#net/host-port.ts';
import { type IpAddress, ip } from '#net/ip.ts';
import { AUTHORIZATION_TYPE_URL, encodeAuthorization } from '#proto/authorization.ts';
import { type DeltaResource, decodeDeltaRequest, encodeDeltaResponse } from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { startXdsClient } from '#xds/client.ts';
import { policy, service, workload } from '../../lib/arbitraries.ts';
import { behindLength, messagesOf, pickedBy, type Target } from '../target.ts';

const SOURCE = workloadOf({ name: 'client', ips: [ip('10.0.0.9')], node: 'n1' });
/** Of each kind, so that an input of many is not judged by how many there are. */
const MOST_ASKED = 8;

function response(typeUrl: string, values: readonly Uint8Array[], removed: readonly string[] = []): Buffer {
  const resources = values.map(
    (value, at): DeltaResource => ({ name: `name-${at}`, version: `${at}`, typeUrl, value }),
  );
  return behindLength(
    encodeDeltaResponse({ systemVersionInfo: '', typeUrl, nonce: 'n', resources, removed }),
  );
}

function seeds(): readonly Uint8Array[] {
  const samples = <T>(of: fc.Arbitrary<T>): T[] => fc.sample(of, { seed: 2, numRuns: 4 });
  const workloads = samples(workload).map((value) => encodeAddress({ kind: 'workload', workload: value }));
  const services = samples(service).map((value) => encodeAddress({ kind: 'service', service: value }));
  const policies = samples(policy).map(encodeAuthorization);
  return [
    Buffer.concat([
      response(ADDRESS_TYPE_URL, [...workloads, ...services]),
      response(AUTHORIZATION_TYPE_URL, policies),
    ]),
    Buffer.concat([
      response(ADDRESS_TYPE_URL, workloads),
      response(ADDRESS_TYPE_URL, services, ['name-0']),
      response(AUTHORIZATION_TYPE_URL, policies, ['name-1', 'unknown']),
    ]),
    response('type.googleapis.com/unknown', [Buffer.from('x')]),
  ];
}

function converse(input: Buffer): string {
  const scope = new Scope('fuzz');
  const store = createStore({ localNode: 'n1' });
  let answers = 0;
  let nacks = 0;
  let isOver = false;
  let handle: (bytes: Uint8Array) => void = () => {};
  const client = startXdsClient(
    {
      scope,
      store,
      log: silentLogger,
      open: (handlers) => {
        handle = (bytes) => handlers.message(bytes);
        return {
          send: (bytes) => {
            const { error, responseNonce, node } = decodeDeltaRequest(bytes);
            if (node === undefined) answers++;
            if (error !== undefined) {
              nacks++;
              assert.ok(error.message !== '' && responseNonce !== undefined);
            }
          },
          close: () => {
            isOver = true;
          },
        };
      },
    },
    { node: { id: 'ztunnel', metadata: {} }, onDemand: pickedBy(input, 2) === 0 },
  );
  try {
    let messages = 0;
    for (const message of messagesOf(input)) {
      if (isOver) break;
      messages++;
      // Bytes of their own: what the store keeps must not change with the input.
      handle(new Uint8Array(message));
      assert.ok(isOver || answers === messages, `${messages} messages, ${answers} answers`);
    }
    const decided = decide(store);
    return `${isOver ? 'ended' : 'open'} ${Math.min(nacks, 2)} ${client.ready} ${decided}`;
  } finally {
    scope.close();
  }
}

/** Every kind of decision over what is there. */
function decide(store: Store): string {
  const asked: { readonly network: string; readonly ip: IpAddress }[] = [{ network: '', ip: ip('10.1.2.3') }];
  for (const { service: of } of store.services()) asked.push(...of.vips.slice(0, MOST_ASKED));
  for (const { network, ips } of store.workloads())
    asked.push(...ips.slice(0, MOST_ASKED).map((each) => ({ network, ip: each })));
  const kinds = new Set<string>();
  for (const { network, ip: address } of asked.slice(0, 2 * MOST_ASKED)) {
    const originalDst: OriginalDst = { ip: address, port: 80 as Port };
    const decision = route({
      ...{ view: store, network, source: { ...SOURCE, network }, downstreamIp: SOURCE.ips[0]! },
      ...{ originalDst, random: () => 0.5 },
    });
    kinds.add(decision.kind);
  }
  return [...kinds].sort().join();
}

export const XDS_CLIENT: Target = { name: 'xds-client', seeds, run: converse };
