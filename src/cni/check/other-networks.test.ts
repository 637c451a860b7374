import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type InstallerOptions, installPlugin, isEffective } from '../install/installer.ts';
import { checkLists, readLists } from './node-facts.ts';
import { checkNetworks, type NetworkSettings } from './other-networks.ts';

// Configuration files in the form in which each network leaves them on a node, cut to what matters.

const CONFIGURATIONS: Readonly<Record<string, { readonly file: string; readonly content: unknown }>> = {
  cilium: {
    file: '05-cilium.conflist',
    content: {
      cniVersion: '0.3.1',
      name: 'cilium',
      plugins: [{ type: 'cilium-cni', 'enable-debug': false, 'log-file': '/var/run/cilium/cilium-cni.log' }],
    },
  },
  calico: {
    file: '10-calico.conflist',
    content: {
      name: 'k8s-pod-network',
      cniVersion: '0.3.1',
      plugins: [
        { type: 'calico', datastore_type: 'kubernetes', mtu: 0, ipam: { type: 'calico-ipam' } },
        { type: 'portmap', snat: true, capabilities: { portMappings: true } },
        { type: 'bandwidth', capabilities: { bandwidth: true } },
      ],
    },
  },
  openshift: {
    file: '10-ovn-kubernetes.conf',
    content: { cniVersion: '0.4.0', name: 'ovn-kubernetes', type: 'ovn-k8s-cni-overlay', ipam: {}, dns: {} },
  },
  aws: {
    file: '10-aws.conflist',
    content: {
      cniVersion: '0.4.0',
      name: 'aws-cni',
      disableCheck: true,
      plugins: [
        { name: 'aws-cni', type: 'aws-cni', vethPrefix: 'eni', mtu: '9001', podSGEnforcingMode: 'strict' },
        { name: 'egress-cni', type: 'egress-cni', mtu: '9001', enabled: 'false' },
        { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      ],
    },
  },
  flannel: {
    file: '10-flannel.conflist',
    content: {
      name: 'cbr0',
      cniVersion: '0.3.1',
      plugins: [
        { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    },
  },
  kindnet: {
    file: '10-kindnet.conflist',
    content: {
      cniVersion: '0.3.1',
      name: 'kindnet',
      plugins: [
        {
          type: 'ptp',
          ipMasq: false,
          ipam: { type: 'host-local', dataDir: '/run/cni-ipam-state' },
          mtu: 1500,
        },
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    },
  },
};

async function onNode<T>(name: string, look: (netDir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-net-'));
  try {
    const { file, content } = CONFIGURATIONS[name]!;
    writeFileSync(join(dir, file), JSON.stringify(content));
    return await look(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const findings = (name: string, settings: NetworkSettings = {}): Promise<string[]> =>
  onNode(name, async (netDir) =>
    checkNetworks(await readLists({ netDir, procDir: '/proc' }), settings).map(
      ({ id, level }) => `${level} ${id}`,
    ),
  );

for (const name of Object.keys(CONFIGURATIONS))
  test(`the plugin is chained last to the configuration of ${name}, and nothing of it is lost`, () =>
    onNode(name, async (netDir) => {
      const options: InstallerOptions = {
        netDir,
        binDir: join(netDir, 'bin'),
        files: { kind: 'link', launcher: '/culvert-cni' },
        mode: 'chained',
        groupRead: false,
        plugin: { runDir: '/run', systemNamespace: 'istio-system', excludedNamespaces: [] },
      };
      const before = (await readLists({ netDir, procDir: '/proc' }))[0]?.list;
      await installPlugin(options);
      const after = (await readLists({ netDir, procDir: '/proc' }))[0]?.list;
      assert.deepEqual(after?.plugins.slice(0, -1), before?.plugins);
      assert.equal(after?.plugins.at(-1)?.type, 'culvert-cni');
      assert.equal(await isEffective(options), true);
    }));

test('Cilium: exclusive mode, socket load balancing, BPF masquerading, policies that deny by default', async () => {
  assert.deepEqual(await findings('cilium'), ['unknown cilium']);
  const good = { 'cni-exclusive': 'false', 'bpf-lb-sock': 'true', 'bpf-lb-sock-hostns-only': 'true' };
  assert.deepEqual(await findings('cilium', { cilium: good }), ['ok cilium']);
  assert.deepEqual(
    await findings('cilium', {
      cilium: {
        'kube-proxy-replacement': 'true',
        'enable-bpf-masquerade': 'true',
        'enable-policy': 'always',
      },
    }),
    [
      'ok cilium',
      'broken cilium-exclusive',
      'broken cilium-socket-lb',
      'trap cilium-bpf-masquerade',
      'trap cilium-policy-always',
    ],
  );
});

test('Calico: load balancing at connect time and strict reverse paths, in eBPF mode', async () => {
  assert.deepEqual(await findings('calico', { felix: {} }), ['ok calico']);
  assert.deepEqual(await findings('calico', { felix: { bpfEnabled: true, bpfEnforceRPF: 'Strict' } }), [
    'ok calico',
    'broken calico-connect-time-lb',
    'trap calico-rpf',
  ]);
  assert.deepEqual(
    await findings('calico', { felix: { bpfEnabled: true, bpfConnectTimeLoadBalancing: 'Disabled' } }),
    ['ok calico'],
  );
});

test('OpenShift: probes need the way through the host, the plugin another place', async () => {
  assert.deepEqual(await findings('openshift', { openshift: {} }), [
    'ok openshift',
    'broken openshift-routing-via-host',
    'trap openshift-places',
  ]);
  const gatewayConfig = { routingViaHost: true };
  const openshift = { defaultNetwork: { ovnKubernetesConfig: { gatewayConfig } } };
  assert.deepEqual(await findings('openshift', { openshift }), ['ok openshift', 'trap openshift-places']);
});

test('Amazon VPC CNI: security groups for pods', async () => {
  assert.deepEqual(await findings('aws', { awsNode: {} }), ['ok aws']);
  assert.deepEqual(await findings('aws', { awsNode: { ENABLE_POD_ENI: 'true' } }), [
    'ok aws',
    'trap aws-security-groups',
    'trap aws-early-demux',
  ]);
  assert.deepEqual(
    await findings('aws', {
      awsNode: {
        ENABLE_POD_ENI: 'true',
        POD_SECURITY_GROUP_ENFORCING_MODE: 'standard',
        DISABLE_TCP_EARLY_DEMUX: 'true',
        NETWORK_POLICY_ENFORCING_MODE: 'strict',
      },
    }),
    ['ok aws', 'trap aws-strict-policies'],
  );
});

test('networks without a known trap, and those nobody knows', async () => {
  assert.deepEqual(await findings('flannel'), ['ok flannel']);
  assert.deepEqual(await findings('kindnet'), ['ok kindnet']);
  const list = { name: 'x', plugins: [{ type: 'house-made' }] };
  assert.match(checkNetworks([{ file: 'x.conflist', list }], {})[0]?.what ?? '', /house-made/);
});

test('a node without any network is told of', () => {
  const [finding] = checkLists([], { netDir: '/etc/cni/net.d', procDir: '/proc' });
  assert.deepEqual([finding?.level, finding?.id], ['broken', 'no-network']);
});
