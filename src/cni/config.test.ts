import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { readCniConfig } from './config.ts';

test('the defaults are those of a node', () => {
  const config = readCniConfig({ NODE_NAME: 'n1', LOG_LEVEL: '' }, '/project');
  assert.deepEqual(config, {
    nodeName: 'n1',
    agent: {
      policy: { systemNamespace: 'istio-system', excludedNamespaces: new Set(['kube-system']) },
      netnsDir: '/var/run/netns',
      procDir: '/proc',
      zdsPath: '/var/run/ztunnel/ztunnel.sock',
      runDir: '/var/run/istio-cni',
      ipv6: false,
      dnsCapture: false,
      unenrolDrainMs: 30_000,
      closeOlder: false,
    },
    backend: { ipv6: false, runDir: '/var/run/istio-cni' },
    kubeletUid: undefined,
    branchEni: true,
    installer: {
      netDir: '/etc/cni/net.d',
      binDir: '/opt/cni/bin',
      files: { kind: 'link', launcher: '/project/bin/culvert-cni' },
      mode: 'chained',
      groupRead: false,
      plugin: {
        runDir: '/var/run/istio-cni',
        systemNamespace: 'istio-system',
        excludedNamespaces: ['kube-system'],
      },
    },
    removeOnExit: false,
    healthPort: 8000,
    monitoringPort: 15_014,
    logFormat: 'plain',
    logLevel: 'info',
  });
});

test('a value that cannot be used is named', () => {
  const cases: [Record<string, string>, RegExp][] = [
    [{}, /NODE_NAME is not set/],
    [{ NODE_NAME: 'n', AMBIENT_IPV6: 'maybe' }, /AMBIENT_IPV6="maybe": expected true or false/],
    [{ NODE_NAME: 'n', HEALTH_PORT: '70000' }, /HEALTH_PORT/],
    [{ NODE_NAME: 'n', NATIVE_NFTABLES: 'sometimes' }, /NATIVE_NFTABLES="sometimes"/],
    [{ NODE_NAME: 'n', FORCE_IPTABLES_BINARY: 'new' }, /FORCE_IPTABLES_BINARY="new": expected legacy, nft/],
    [{ NODE_NAME: 'n', LOG_FORMAT: 'xml' }, /LOG_FORMAT="xml": expected plain, json/],
  ];
  for (const [env, message] of cases)
    assert.throws(
      () => readCniConfig(env, '/project'),
      (error) => error instanceof MeshError && error.code === 'CONFIG_INVALID' && message.test(error.message),
    );
});

test('the three ways to install the plugin', () => {
  const installer = (env: Record<string, string>) =>
    readCniConfig({ NODE_NAME: 'n1', ...env }, '/p').installer;
  assert.equal(installer({ CHAINED_CNI_PLUGIN: 'false' }).mode, 'standalone');
  const owned = installer({
    ISTIO_OWNED_CNI_CONFIG: 'true',
    ISTIO_OWNED_CNI_CONFIG_FILENAME: '01-mesh.conflist',
    CNI_CONF_NAME: '10-calico.conflist',
    CNI_CONF_GROUP_READ: 'true',
  });
  assert.deepEqual(
    [owned.mode, owned.ownName, owned.primaryName, owned.groupRead],
    ['owned', '01-mesh.conflist', '10-calico.conflist', true],
  );
  assert.deepEqual(installer({ CULVERT_CNI_FILES: 'copy' }).files, {
    kind: 'copy',
    node: process.execPath,
    bundle: '/p/dist/cni-plugin.mjs',
  });
});
