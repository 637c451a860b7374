// What the statuses say, by hand from control-plane.md §2.12, §3.3, §3.5 and §3.6.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import type { GatewayClass, ServiceEntry, WorkloadEntry } from '#k8s/mesh-objects.ts';
import type { AuthorizationPolicy, Namespace, PeerAuthentication, Pod, Service } from '#k8s/objects.ts';
import { parseMeshConfig } from '../mesh-config.ts';
import { reportsOfService, reportsOfServiceEntry, reportsOfWorkloadEntry } from './binding-report.ts';
import type { Report } from './condition.ts';
import { Hands, object, waypoint } from './fixtures.ts';
import { reportsOfPeerAuthentication } from './peer-report.ts';
import { reportsOfPolicy } from './policy-report.ts';

let world: Hands;

beforeEach(() => {
  world = new Hands();
  for (const name of ['shop', 'other', 'istio-system'])
    world.namespaces.put(object<Namespace>('Namespace', name, {}));
  world.pods.put(object<Pod>('Pod', 'shop/web', { spec: { containers: [] } }, { labels: { app: 'web' } }));
});

/** `manager: Type=Status/Reason`, and the messages apart. */
function said(reports: readonly Report[]): { brief: string[]; text: string } {
  return {
    brief: reports.flatMap(({ manager, types, statements }) =>
      statements.map(({ type, status, reason }) => {
        assert.ok(types.includes(type));
        return `${manager}: ${type}=${status ? 'True' : 'False'}/${reason}`;
      }),
    ),
    text: reports.flatMap(({ statements }) => statements.map(({ message }) => message)).join('\n'),
  };
}

const L4 = { rootNamespace: 'istio-system', dryRun: false, trustDomains: ['cluster.local'] };
type PolicySpec = NonNullable<AuthorizationPolicy['spec']>;

const ofPolicy = (spec: PolicySpec, key = 'shop/p', annotations = {}) =>
  said(
    reportsOfPolicy(
      object<AuthorizationPolicy>('AuthorizationPolicy', key, { spec }, { annotations }),
      world.view(),
      L4,
    ),
  );

const ztunnel = (verdict: string): string[] => [`istio-ambient-ztunnel-policy: ZtunnelAccepted=${verdict}`];
const byWaypoint = (verdict: string): string[] => [
  `istio-ambient-waypoint-policy: WaypointAccepted=${verdict}`,
];

describe('AuthorizationPolicy without targets', () => {
  test('enforced as it is', () => {
    const { brief, text } = ofPolicy({ rules: [{ from: [{ source: { namespaces: ['shop'] } }] }] });
    assert.deepEqual(brief, ztunnel('True/Accepted'));
    assert.equal(text, 'enforced by node proxies');
  });

  test('the generation that was looked at is told', () => {
    const reports = reportsOfPolicy(
      object<AuthorizationPolicy>('X', 'shop/p', { spec: {} }),
      world.view(),
      L4,
    );
    assert.deepEqual(
      reports.flatMap(({ statements }) => statements.map(({ generation }) => generation)),
      [3],
    );
  });

  test('HTTP attributes: True, with the reason UnsupportedValue and their names', () => {
    const rules = [{ to: [{ operation: { methods: ['GET'], paths: ['/a'] } }] }];
    const allow = ofPolicy({ action: 'ALLOW', rules });
    assert.deepEqual(allow.brief, ztunnel('True/UnsupportedValue'));
    assert.match(allow.text, /methods, paths.*omitted/);
    const deny = ofPolicy({ action: 'DENY', rules });
    assert.deepEqual(deny.brief, ztunnel('True/UnsupportedValue'));
    assert.match(deny.text, /no effect without a waypoint/);
  });

  for (const action of ['CUSTOM', 'AUDIT'] as const)
    test(`${action} is enforced by nobody here`, () => {
      const { brief, text } = ofPolicy({ action, rules: [{}] });
      assert.deepEqual(brief, ztunnel('False/UnsupportedValue'));
      assert.match(text, new RegExp(action));
    });

  test('dry-run: False, also when it is aimed at a waypoint', () => {
    const dryRun = { 'istio.io/dry-run': 'true' };
    assert.deepEqual(ofPolicy({ rules: [{}] }, 'shop/p', dryRun).brief, ztunnel('False/UnsupportedValue'));
    assert.deepEqual(ofPolicy({ targetRefs: [{ kind: 'Service', name: 'none' }] }, 'shop/p', dryRun).brief, [
      ...byWaypoint('False/TargetNotFound'),
      'istio-ambient-waypoint-policy: ZtunnelAccepted=False/UnsupportedValue',
    ]);
  });

  test('a selector that finds nobody is told, and no more when somebody comes', () => {
    const spec = { selector: { matchLabels: { app: 'db' } }, rules: [] };
    assert.match(ofPolicy(spec).text, /matches no workload at present$/);
    assert.deepEqual(ofPolicy(spec).brief, ztunnel('True/Accepted'));
    world.pods.put(object<Pod>('Pod', 'other/db', { spec: { containers: [] } }, { labels: { app: 'db' } }));
    assert.match(ofPolicy(spec).text, /matches no workload/, 'of another namespace');
    assert.doesNotMatch(
      ofPolicy(spec, 'istio-system/p').text,
      /matches no workload/,
      'the root selects everywhere',
    );
    world.workloadEntries.put(
      object<WorkloadEntry>('WorkloadEntry', 'shop/vm', { spec: { labels: { app: 'db' } } }),
    );
    assert.doesNotMatch(ofPolicy(spec).text, /matches no workload/, 'machines are workloads');
  });

  test('another revision’s, or out of view: nothing is said', () => {
    const spec = { rules: [{}] };
    const policy = object<AuthorizationPolicy>(
      'X',
      'shop/p',
      { spec },
      { labels: { 'istio.io/rev': 'canary' } },
    );
    assert.deepEqual(said(reportsOfPolicy(policy, world.view(), L4)).brief, []);
    world.hidden.add('shop');
    assert.deepEqual(ofPolicy(spec).brief, []);
  });
});

describe('AuthorizationPolicy with targets', () => {
  const service = (labels: Record<string, string>): void =>
    world.services.put(object<Service>('Service', 'shop/web', { spec: {} }, { labels }));

  test('a Gateway that is a waypoint, one without address, none', () => {
    const spec = { targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'wp' }] };
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/TargetNotFound'));
    world.gateways.put({ ...waypoint('shop/wp'), status: {} });
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/TargetNotFound'));
    world.gateways.put(waypoint('shop/wp'));
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('True/Accepted'));
    assert.equal(ofPolicy(spec).text, 'bound to shop/wp');
  });

  test('a Service: unknown, without a waypoint, with one of its namespace', () => {
    const spec = { targetRef: { kind: 'Service', name: 'web' } };
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/TargetNotFound'));
    service({});
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/AncestorNotBound'));
    world.gateways.put(waypoint('shop/wp'));
    world.namespaces.put(
      object<Namespace>('Namespace', 'shop', {}, { labels: { 'istio.io/use-waypoint': 'wp' } }),
    );
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('True/Accepted'));
    service({ 'istio.io/use-waypoint': 'none' });
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/AncestorNotBound'));
  });

  test('a ServiceEntry that is seen in its namespace only is not bound to a foreign waypoint', () => {
    const spec = { targetRefs: [{ group: 'networking.istio.io', kind: 'ServiceEntry', name: 'api' }] };
    world.gateways.put(waypoint('other/wp'));
    world.serviceEntries.put(
      object<ServiceEntry>(
        'ServiceEntry',
        'shop/api',
        { spec: { hosts: ['api.test'] } },
        { labels: { 'istio.io/use-waypoint': 'wp', 'istio.io/use-waypoint-namespace': 'other' } },
      ),
    );
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('True/Accepted'));
    world.config = parseMeshConfig('serviceEntryVisibility: { defaultVisibility: NAMESPACE }');
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/AncestorNotBound'));
  });

  test('a GatewayClass: only from the root namespace, only of waypoints', () => {
    const spec = {
      targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'GatewayClass', name: 'istio-waypoint' }],
    };
    assert.deepEqual(ofPolicy(spec).brief, byWaypoint('False/Invalid'));
    assert.deepEqual(ofPolicy(spec, 'istio-system/p').brief, byWaypoint('False/TargetNotFound'));
    const put = (controllerName: string): void =>
      world.gatewayClasses.put(
        object<GatewayClass>('GatewayClass', 'istio-waypoint', { spec: { controllerName } }),
      );
    put('istio.io/gateway-controller');
    assert.deepEqual(ofPolicy(spec, 'istio-system/p').brief, byWaypoint('False/Invalid'));
    put('istio.io/mesh-controller');
    assert.deepEqual(ofPolicy(spec, 'istio-system/p').brief, byWaypoint('True/Accepted'));
  });

  test('several targets: True if any is bound, and the others are named', () => {
    world.gateways.put(waypoint('shop/wp'));
    const gateway = { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'wp' };
    const missing = { group: '', kind: 'Service', name: 'gone' };
    const both = ofPolicy({ targetRefs: [gateway, missing] });
    assert.deepEqual(both.brief, byWaypoint('True/PartiallyInvalid'));
    assert.match(both.text, /Service\.core:shop\/gone/);
    assert.deepEqual(ofPolicy({ targetRefs: [gateway, gateway] }).brief, byWaypoint('True/Accepted'));
    assert.deepEqual(ofPolicy({ targetRefs: [missing, missing] }).brief, byWaypoint('False/Invalid'));
  });
});

describe('PeerAuthentication', () => {
  type Spec = NonNullable<PeerAuthentication['spec']>;
  const ofPeer = (spec: Spec, key = 'shop/p', metadata = {}) => {
    const peer = object<PeerAuthentication>('PeerAuthentication', key, { spec }, metadata);
    world.peerAuthentications.put(peer);
    return said(reportsOfPeerAuthentication(peer, world.view()));
  };
  const web = { matchLabels: { app: 'web' } };

  test('enforced', () => {
    assert.deepEqual(ofPeer({ mtls: { mode: 'STRICT' } }).brief, ztunnel('True/Accepted'));
    assert.deepEqual(ofPeer({ selector: web, mtls: { mode: 'STRICT' } }).brief, ztunnel('True/Accepted'));
  });
  test('a selector in the root namespace is ignored', () => {
    assert.deepEqual(ofPeer({ selector: web }, 'istio-system/p').brief, ztunnel('False/Invalid'));
  });
  test('the older of two for one namespace holds', () => {
    const old = { creationTimestamp: '2030-01-01T00:00:00Z' };
    assert.deepEqual(ofPeer({}, 'shop/old', old).brief, ztunnel('True/Accepted'));
    const late = ofPeer({ mtls: { mode: 'STRICT' } }, 'shop/late', {
      creationTimestamp: '2030-01-02T00:00:00Z',
    });
    assert.deepEqual(late.brief, ztunnel('False/Overridden'));
    assert.match(late.text, /shop\/old/);
  });
  test('DISABLE is PERMISSIVE, ports need a selector, nobody is selected', () => {
    assert.deepEqual(ofPeer({ mtls: { mode: 'DISABLE' } }).brief, ztunnel('True/UnsupportedValue'));
    assert.deepEqual(
      ofPeer({ portLevelMtls: { '80': { mode: 'STRICT' } } }).brief,
      ztunnel('True/UnsupportedValue'),
    );
    assert.match(ofPeer({ selector: { matchLabels: { app: 'db' } } }).text, /matches no workload/);
  });
});

describe('waypoints of services', () => {
  const ofService = (labels: Record<string, string>, annotations = {}) =>
    said(
      reportsOfService(
        object<Service>('Service', 'shop/web', { spec: {} }, { labels, annotations }),
        world.view(),
      ),
    );
  const bound = (verdict: string): string[] => [`istio-ambient-service: istio.io/WaypointBound=${verdict}`];
  const use = { 'istio.io/use-waypoint': 'wp' };

  test('none asked for: nothing is said', () => assert.deepEqual(ofService({}).brief, []));
  test('bound', () => {
    world.gateways.put(waypoint('shop/wp'));
    assert.deepEqual(ofService(use).brief, bound('True/WaypointAccepted'));
    assert.equal(ofService(use).text, 'bound to waypoint shop/wp');
  });
  test('of ingress traffic is spoken where its label is set', () => {
    world.gateways.put(waypoint('shop/wp'));
    assert.match(ofService({ ...use, 'istio.io/ingress-use-waypoint': 'true' }).text, /goes through it, too/);
    assert.match(
      ofService({ ...use, 'istio.io/ingress-use-waypoint': 'false' }).text,
      /ingress gateways does not/,
    );
  });
  test('not there, not admitted, not for services', () => {
    assert.deepEqual(ofService(use).brief, bound('False/WaypointIsNotReady'));
    world.gateways.put(waypoint('shop/wp', 'workload'));
    assert.deepEqual(ofService(use).brief, bound('False/UnsupportedTrafficType'));
    world.gateways.put(waypoint('other/wp', 'service', 'Same'));
    const foreign = { ...use, 'istio.io/use-waypoint-namespace': 'other' };
    assert.deepEqual(ofService(foreign).brief, bound('False/AttachmentDenied'));
  });
  test('a canary that cannot be used is told, and the service stays bound', () => {
    world.gateways.put(waypoint('shop/wp'));
    const { brief, text } = ofService({ ...use, 'istio.io/use-waypoint-canary': 'wp' });
    assert.deepEqual(brief, bound('True/WaypointAccepted'));
    assert.match(text, /canary is not used/);
  });
  test('an alias has no waypoint', () => {
    const alias = object<Service>('Service', 'shop/a', { spec: { type: 'ExternalName' } }, { labels: use });
    assert.deepEqual(said(reportsOfService(alias, world.view())).brief, []);
  });

  const ofEntry = (hosts: string[], labels = {}, annotations = {}) =>
    said(
      reportsOfServiceEntry(
        object<ServiceEntry>('ServiceEntry', 'shop/e', { spec: { hosts } }, { labels, annotations }),
        world.view(),
      ),
    ).brief;
  const missing = (reason: string): string[] => [
    `istio-ambient-service: istio.io/WaypointMissing=True/${reason}`,
  ];

  test('wildcard hosts and racing need one', () => {
    assert.deepEqual(ofEntry(['api.test']), []);
    assert.deepEqual(ofEntry(['*.api.test']), missing('NoWaypointForWildcardService'));
    const racing = { 'istio.io/connect-strategy': 'RACE_FIRST_TCP_CONNECT' };
    assert.deepEqual(ofEntry(['api.test'], {}, racing), missing('NoWaypointForRacingConnectStrategy'));
    assert.deepEqual(ofEntry(['*.api.test'], use), [
      ...bound('False/WaypointIsNotReady'),
      ...missing('NoWaypointForWildcardService'),
    ]);
    world.gateways.put(waypoint('shop/wp'));
    assert.deepEqual(ofEntry(['*.api.test'], use), bound('True/WaypointAccepted'));
  });
  test('visibility is told where it is configured', () => {
    world.config = parseMeshConfig('serviceEntryVisibility: { defaultVisibility: NAMESPACE }');
    assert.deepEqual(ofEntry(['api.test']), [
      'istio-ambient-service: istio.io/VisibilityApplied=True/Namespace',
    ]);
    world.config = parseMeshConfig('serviceEntryVisibility: { defaultVisibility: PUBLIC }');
    assert.deepEqual(ofEntry(['api.test']), [
      'istio-ambient-service: istio.io/VisibilityApplied=True/Public',
    ]);
    world.config = parseMeshConfig('serviceEntryVisibility: { defaultVisibility: NONE }');
    assert.deepEqual(ofEntry(['*.api.test']), []);
  });

  test('a WorkloadEntry: its own word counts, its namespace’s is silent about workloads', () => {
    const ofMachine = (labels = {}) =>
      said(
        reportsOfWorkloadEntry(
          object<WorkloadEntry>('WorkloadEntry', 'shop/vm', {}, { labels }),
          world.view(),
        ),
      ).brief;
    world.gateways.put(waypoint('shop/wp', 'service'));
    world.namespaces.put(object<Namespace>('Namespace', 'shop', {}, { labels: use }));
    assert.deepEqual(ofMachine(), []);
    const mine = 'istio-ambient-workloadentry: istio.io/WaypointBound';
    assert.deepEqual(ofMachine(use), [`${mine}=False/UnsupportedTrafficType`]);
    world.gateways.put(waypoint('shop/wp', 'all'));
    assert.deepEqual(ofMachine(), [`${mine}=True/WaypointAccepted`]);
  });
});
