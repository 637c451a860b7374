// Round trips of every conversion, and the rules of ztunnel.md §3.6 one by one with bytes written by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import type { Address } from '#model/address.ts';
import { authorize } from '#model/authorize.ts';
import type { Policy } from '#model/policy.ts';
import type { Workload } from '#model/workload.ts';
import type { IpAddress } from '#net/ip.ts';
import { plain, policy, request, service, workload } from '../../test/lib/arbitraries.ts';
import { decodeAuthorization, encodeAuthorization } from './authorization.ts';
import {
  decodeDeltaRequest,
  decodeDeltaResponse,
  encodeDeltaRequest,
  encodeDeltaResponse,
} from './discovery.ts';
import * as wire from './gen/workload_pb.js';
import { Sharing } from './sharing.ts';
import { decodeAddress, encodeAddress } from './workload.ts';
import { workloadIn } from './workload-part.ts';

test('a workload survives the wire, whatever others it shares with', () => {
  const sharing = new Sharing();
  fc.assert(
    fc.property(workload, (value) => {
      const decoded = decodeAddress(encodeAddress({ kind: 'workload', workload: value }), sharing);
      assert.deepEqual(plain(decoded), plain({ kind: 'workload', workload: value }));
    }),
  );
});

test('a service survives the wire', () => {
  fc.assert(
    fc.property(service, (value) => {
      const decoded = decodeAddress(encodeAddress({ kind: 'service', service: value }));
      assert.deepEqual(plain(decoded), plain({ kind: 'service', service: value }));
    }),
  );
});

test('the workload inside an address is a message of its own', () => {
  fc.assert(
    fc.property(workload, (value) => {
      const address = encodeAddress({ kind: 'workload', workload: value });
      const whole = fromBinary(wire.AddressSchema, address);
      assert.deepEqual(fromBinary(wire.WorkloadSchema, workloadIn(address)!), whole.type.value);
    }),
  );
});

test('a policy survives the wire', () => {
  fc.assert(
    fc.property(policy, (value) => {
      assert.deepEqual(plain(decodeAuthorization(encodeAuthorization(value))), plain(value));
    }),
  );
});

test('the order of a workload’s services does not change its bytes', () => {
  fc.assert(
    fc.property(workload, (value) => {
      const reversed: Workload = { ...value, services: new Map([...value.services].reverse()) };
      const bytes = (of: Workload): string =>
        Buffer.from(encodeAddress({ kind: 'workload', workload: of })).toString('hex');
      assert.equal(bytes(reversed), bytes(value));
    }),
  );
});

test('any bytes decode or are refused with a reason', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      for (const decode of [decodeAddress, decodeAuthorization, decodeDeltaRequest, decodeDeltaResponse]) {
        try {
          decode(bytes);
        } catch (error) {
          assert.ok(error instanceof MeshError && error.message.length > 0);
        }
      }
    }),
  );
});

test('requests and responses survive the wire', () => {
  fc.assert(
    fc.property(request, (value) => {
      assert.deepEqual(plain(decodeDeltaRequest(encodeDeltaRequest(value))), plain(value));
    }),
  );
  const response = {
    systemVersionInfo: 'v7',
    typeUrl: 'type.googleapis.com/istio.workload.Address',
    nonce: 'n',
    resources: [{ name: 'a', version: '1', typeUrl: 't', value: Uint8Array.of(1, 2) }],
    removed: ['b'],
  };
  const decoded = decodeDeltaResponse(encodeDeltaResponse(response));
  assert.deepEqual(
    { ...decoded, resources: decoded.resources.map((r) => ({ ...r, value: [...r.value] })) },
    { ...response, resources: [{ name: 'a', version: '1', typeUrl: 't', value: [1, 2] }] },
  );
});

// Hand-written messages: a field is (number << 3 | wire type), then a length for wire type 2.
const field = (number: number, ...payload: number[]): number[] => [
  ...varint((number << 3) | 2),
  ...varint(payload.length),
  ...payload,
];
const scalar = (number: number, value: number): number[] => [...varint(number << 3), ...varint(value)];
const utf8 = (value: string): number[] => [...Buffer.from(value)];
function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}
const workloadBytes = (...body: number[]): Uint8Array => Uint8Array.from(field(1, ...body));
const serviceBytes = (...body: number[]): Uint8Array => Uint8Array.from(field(2, ...body));
const decodedWorkload = (...body: number[]): Workload => {
  const address: Address = decodeAddress(workloadBytes(...body));
  assert.equal(address.kind, 'workload');
  return (address as Extract<Address, { kind: 'workload' }>).workload;
};

test('what a workload leaves out takes the field’s defaults', () => {
  const workload = decodedWorkload(...field(20, ...utf8('u')));
  assert.equal(workload.uid, 'u');
  assert.equal(workload.trustDomain, 'cluster.local');
  assert.equal(workload.serviceAccount, 'default');
  assert.equal(workload.clusterId, 'Kubernetes');
  assert.equal(workload.capacity, 1);
  assert.equal(workload.workloadType, 'deployment');
  assert.equal(workload.protocol, 'TCP');
  assert.equal(workload.applicationTunnel, undefined);
});

test('lenient fields of a workload', () => {
  assert.equal(decodedWorkload(...scalar(12, 9)).workloadType, 'deployment');
  assert.equal(decodedWorkload(...scalar(12, 1)).workloadType, 'cronjob');
  assert.equal(decodedWorkload(...field(27)).capacity, 0);
  // Application tunnel with port 0: no port of its own. Port 65,616 is 80 in 16 bits.
  assert.deepEqual(decodedWorkload(...field(23, ...scalar(1, 1))).applicationTunnel, {
    protocol: 'PROXY',
    port: undefined,
  });
  assert.deepEqual(decodedWorkload(...field(23, ...scalar(2, 65_616))).applicationTunnel, {
    protocol: 'NONE',
    port: 80,
  });
});

const refused: readonly [string, Uint8Array, RegExp][] = [
  ['an empty address', new Uint8Array(), /neither a workload nor a service/],
  ['an address of five bytes', workloadBytes(...field(3, 1, 2, 3, 4, 5)), /5 bytes/],
  ['legacy mTLS', workloadBytes(...scalar(5, 2)), /tunnel protocol 2/],
  ['an unknown tunnel protocol', workloadBytes(...scalar(5, 7)), /tunnel protocol 7/],
  ['an unknown network mode', workloadBytes(...scalar(25, 4)), /network mode 4/],
  ['an unknown status', workloadBytes(...scalar(17, 3)), /status 3/],
  ['an unknown tunnel', workloadBytes(...field(23, ...scalar(1, 5))), /application tunnel protocol 5/],
  [
    'a service key without a slash',
    workloadBytes(...field(22, ...field(1, ...utf8('plain')), ...field(2))),
    /plain/,
  ],
  ['a waypoint without destination', workloadBytes(...field(8, ...scalar(3, 15_008))), /waypoint has no/],
  ['a gateway without destination', workloadBytes(...field(19)), /network gateway has no/],
  ['a prefix too long', serviceBytes(...field(4, ...field(2, 10, 0, 0, 0), ...scalar(3, 33))), /33/],
  ['an unspecified scope', serviceBytes(...field(8, ...field(1, 0))), /scope 0/],
  ['an unknown mode', serviceBytes(...field(8, ...scalar(2, 8))), /mode 8/],
  ['an unknown health policy', serviceBytes(...field(8, ...scalar(3, 2))), /health policy 2/],
  ['unknown IP families', serviceBytes(...scalar(9, 4)), /families 4/],
  [
    'a weighted waypoint without destination',
    serviceBytes(...field(13, ...scalar(2, 1))),
    /weighted waypoint/,
  ],
];
for (const [what, bytes, reason] of refused) {
  test(`${what} is refused`, () => {
    assert.throws(
      () => decodeAddress(bytes),
      (error) =>
        error instanceof MeshError && error.code === 'XDS_RESOURCE_REJECTED' && reason.test(error.message),
    );
  });
}

test('a service address with a prefix length is a range unless the prefix is the full width', () => {
  const address = (length: number): number[] => [...field(4, ...field(2, 10, 1, 2, 3), ...scalar(3, length))];
  const decoded = decodeAddress(serviceBytes(...address(32), ...address(16)));
  assert.equal(decoded.kind, 'service');
  const { service } = decoded as Extract<Address, { kind: 'service' }>;
  assert.deepEqual(service.vips, [{ network: '', ip: '10.1.2.3' }]);
  assert.deepEqual(service.cidrVips, [{ network: '', cidr: { address: '10.1.0.0', prefixLength: 16 } }]);
  assert.equal(service.visibility, 'Public');
});

/** What one clause with one match says in an ALLOW and in a DENY, and how many of its conditions are reported. */
function readings(...match: number[]): { allow: Policy; deny: Policy; reported: number } {
  const rule = field(5, ...field(1, ...field(2, ...match)));
  const reported: string[] = [];
  const read = (action: number): Policy =>
    decodeAuthorization(Uint8Array.from([...scalar(4, action), ...rule]), (what) => reported.push(what));
  const [allow, deny] = [read(0), read(1)];
  return { allow, deny, reported: reported.length / 2 };
}

const SOURCE = '10.1.2.3' as IpAddress;
const ANYBODY = { sourceIp: SOURCE, identity: undefined, destination: { ip: SOURCE, port: 80 } } as const;
const verdict = (policy: Policy): string => authorize([policy], ANYBODY).verdict;

const KINDLESS = field(1);
const RANGE_OF_3_BYTES = field(5, ...field(1, 1, 2, 3));
const PORT_65616 = field(9, ...varint(65_616));
const PORT_80 = field(9, 80);
const NOT_PORT_65616 = field(10, ...varint(65_616));
const unreadable: Readonly<
  Record<string, { match: number[]; allow: string; deny: string; reported: number }>
> = {
  'nothing else asked': {
    match: [...KINDLESS, ...RANGE_OF_3_BYTES],
    allow: 'deny',
    deny: 'deny',
    reported: 2,
  },
  'a port that is none': { match: PORT_65616, allow: 'deny', deny: 'deny', reported: 1 },
  'an exception that is none': {
    match: [...PORT_80, ...NOT_PORT_65616],
    allow: 'deny',
    deny: 'deny',
    reported: 1,
  },
  'another value that matches': {
    match: [...PORT_80, ...PORT_65616],
    allow: 'allow',
    deny: 'deny',
    reported: 1,
  },
  'another field that does not match': {
    match: [...RANGE_OF_3_BYTES, ...field(9, 81)],
    allow: 'deny',
    deny: 'allow',
    reported: 1,
  },
};
for (const [name, { match, allow, deny, reported }] of Object.entries(unreadable))
  test(`nobody gets in by a condition that cannot be read (${name})`, () => {
    const read = readings(...match);
    assert.deepEqual([verdict(read.allow), verdict(read.deny), read.reported], [allow, deny, reported]);
  });

test('unknown scope and action refuse a policy', () => {
  assert.throws(() => decodeAuthorization(Uint8Array.from(scalar(3, 3))), /scope 3/);
  assert.throws(() => decodeAuthorization(Uint8Array.from(scalar(4, 2))), /action 2/);
});
