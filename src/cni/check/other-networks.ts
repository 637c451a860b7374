// Traps of the networks that the mesh may find on a node (R8): what is known of each, from its configuration and its
// settings in the cluster. Pure.

import type { ConfigList } from '../install/config-files.ts';
import type { Finding } from './finding.ts';

/** Settings of a network as the cluster keeps them; undefined: not there. */
export interface NetworkSettings {
  /** ConfigMap kube-system/cilium-config. */
  readonly cilium?: Readonly<Record<string, string>>;
  /** `spec` of FelixConfiguration default. */
  readonly felix?: Readonly<Record<string, unknown>>;
  /** `spec` of Network (operator.openshift.io) cluster. */
  readonly openshift?: Readonly<Record<string, unknown>>;
  /** Environment of DaemonSet kube-system/aws-node, init containers included. */
  readonly awsNode?: Readonly<Record<string, string>>;
}

interface KnownNetwork {
  readonly name: string;
  /** Plugins that only this network has. */
  readonly types: readonly string[];
  readonly check: (settings: NetworkSettings) => Finding[];
}

const seen = (id: string, name: string): Finding => ({
  id,
  level: 'ok',
  what: `the network of this node is ${name}`,
});

const unread = (id: string, name: string, what: string): Finding => ({
  id,
  level: 'unknown',
  what: `${name}: ${what} could not be read, so its settings were not looked at`,
  fix: 'run this with a kubeconfig that may read it (KUBECONFIG=…)',
});

const KNOWN: readonly KnownNetwork[] = [
  { name: 'Cilium', types: ['cilium-cni'], check: checkCilium },
  { name: 'Calico', types: ['calico', 'calico-ipam'], check: checkCalico },
  { name: 'OpenShift (OVN-Kubernetes)', types: ['ovn-k8s-cni-overlay'], check: checkOpenshift },
  { name: 'OpenShift SDN', types: ['openshift-sdn'], check: checkOpenshiftSdn },
  { name: 'Amazon VPC CNI', types: ['aws-cni', 'egress-v4-cni', 'egress-cni'], check: checkAws },
  { name: 'Multus', types: ['multus', 'multus-cni', 'multus-shim'], check: checkMultus },
  {
    name: 'Flannel',
    types: ['flannel'],
    check: () => [seen('flannel', 'Flannel; nothing is known to be in the way')],
  },
  {
    name: 'kindnet',
    types: ['ptp'],
    check: () => [seen('kindnet', 'kindnet or alike; nothing is known to be in the way')],
  },
];

/** `lists`: every configuration in the node's directory. */
export function checkNetworks(
  lists: readonly { readonly file: string; readonly list: ConfigList }[],
  settings: NetworkSettings,
): Finding[] {
  const types = new Set(lists.flatMap(({ list }) => list.plugins.map(({ type }) => type)));
  const found = KNOWN.filter((network) => network.types.some((type) => types.has(type)));
  if (found.length > 0) return found.flatMap(({ check }) => check(settings));
  if (types.size === 0) return [];
  return [
    {
      id: 'network-unknown',
      level: 'unknown',
      what: `nothing is known here of a network with the plugins ${[...types].join(', ')}`,
    },
  ];
}

const isTrue = (value: unknown): boolean => value === true || value === 'true';

function checkCilium({ cilium }: NetworkSettings): Finding[] {
  if (cilium === undefined) return [unread('cilium', 'Cilium', 'ConfigMap kube-system/cilium-config')];
  const findings: Finding[] = [seen('cilium', 'Cilium')];
  if (isTrue(cilium['cni-exclusive'] ?? 'true'))
    findings.push({
      id: 'cilium-exclusive',
      level: 'broken',
      what: 'Cilium takes every other plugin out of the CNI configuration: new pods would start outside the mesh',
      fix: 'set cni.exclusive=false (cni-exclusive in cilium-config) and restart its agents',
    });
  const replacesKubeProxy =
    isTrue(cilium['kube-proxy-replacement']) || cilium['kube-proxy-replacement'] === 'strict';
  const socketLb = isTrue(cilium['bpf-lb-sock']) || replacesKubeProxy;
  if (socketLb && !isTrue(cilium['bpf-lb-sock-hostns-only']))
    findings.push({
      id: 'cilium-socket-lb',
      level: 'broken',
      what: 'Cilium chooses endpoints of services inside the socket call of a pod: ztunnel sees the pod’s address and not the service, and waypoints are passed by',
      fix: 'set socketLB.hostNamespaceOnly=true (bpf-lb-sock-hostns-only)',
    });
  if (isTrue(cilium['enable-bpf-masquerade']))
    findings.push({
      id: 'cilium-bpf-masquerade',
      level: 'trap',
      what: 'Cilium masquerades by BPF, which loses the answers to probes from 169.254.7.127: pods of the mesh do not become ready',
      fix: 'set bpf.masquerade=false (enable-bpf-masquerade)',
    });
  if (cilium['enable-policy'] === 'always')
    findings.push({
      id: 'cilium-policy-always',
      level: 'trap',
      what: 'Cilium denies whatever no policy allows, and probes of pods in the mesh come from 169.254.7.127',
      fix: 'allow ingress from 169.254.7.127/32 (fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128) with a CiliumClusterwideNetworkPolicy',
    });
  return findings;
}

function checkCalico({ felix }: NetworkSettings): Finding[] {
  if (felix === undefined)
    return [unread('calico', 'Calico', 'FelixConfiguration default (crd.projectcalico.org)')];
  const findings: Finding[] = [seen('calico', 'Calico')];
  const connectTime = felix.bpfConnectTimeLoadBalancing;
  const chooses = connectTime === undefined || connectTime === 'Enabled' || connectTime === 'TCP';
  if (isTrue(felix.bpfEnabled) && chooses)
    findings.push({
      id: 'calico-connect-time-lb',
      level: 'broken',
      what: 'Calico’s eBPF mode chooses endpoints of services inside the socket call of a pod: ztunnel sees the pod’s address and not the service',
      fix: 'set bpfConnectTimeLoadBalancing: Disabled in FelixConfiguration default',
    });
  if (felix.bpfEnforceRPF === 'Strict')
    findings.push({
      id: 'calico-rpf',
      level: 'trap',
      what: 'Calico’s eBPF mode drops packets whose sender it does not know behind an interface, such as probes from 169.254.7.127',
      fix: 'set bpfEnforceRPF: Loose in FelixConfiguration default',
    });
  return findings;
}

function checkOpenshift({ openshift }: NetworkSettings): Finding[] {
  const name = 'OpenShift with OVN-Kubernetes';
  if (openshift === undefined) return [unread('openshift', name, 'Network cluster (operator.openshift.io)')];
  const network = (openshift.defaultNetwork ?? {}) as {
    readonly ovnKubernetesConfig?: { readonly gatewayConfig?: { readonly routingViaHost?: unknown } };
  };
  const viaHost = isTrue(network.ovnKubernetesConfig?.gatewayConfig?.routingViaHost);
  return [
    seen('openshift', name),
    ...(viaHost
      ? []
      : [
          {
            id: 'openshift-routing-via-host',
            level: 'broken' as const,
            what: 'the answers of pods to probes from 169.254.7.127 do not pass the node’s own network: pods of the mesh do not become ready',
            fix: 'set defaultNetwork.ovnKubernetesConfig.gatewayConfig.routingViaHost: true in Network cluster',
          },
        ]),
    ...OPENSHIFT_PLACES,
  ];
}

const OPENSHIFT_PLACES: readonly Finding[] = [
  {
    id: 'openshift-places',
    level: 'trap',
    what: 'OpenShift keeps CNI programs and configuration elsewhere, and calls plugins through Multus',
    fix: 'install with CNI_BIN_DIR=/var/lib/cni/bin, CNI_NET_DIR=/etc/cni/multus/net.d, CHAINED_CNI_PLUGIN=false, and let the agent use the SCC privileged',
  },
];

function checkOpenshiftSdn(): Finding[] {
  return [seen('openshift-sdn', 'OpenShift SDN; it is no longer maintained'), ...OPENSHIFT_PLACES];
}

function checkAws({ awsNode }: NetworkSettings): Finding[] {
  if (awsNode === undefined) return [unread('aws', 'Amazon VPC CNI', 'DaemonSet kube-system/aws-node')];
  const findings: Finding[] = [seen('aws', 'Amazon VPC CNI')];
  if (!isTrue(awsNode.ENABLE_POD_ENI)) return findings;
  if (awsNode.POD_SECURITY_GROUP_ENFORCING_MODE !== 'standard')
    findings.push({
      id: 'aws-security-groups',
      level: 'trap',
      what: 'pods with security groups of their own get no probes: their traffic leaves the node before it is looked at',
      fix: 'set POD_SECURITY_GROUP_ENFORCING_MODE=standard on aws-node and restart those pods',
    });
  if (!isTrue(awsNode.DISABLE_TCP_EARLY_DEMUX))
    findings.push({
      id: 'aws-early-demux',
      level: 'trap',
      what: 'the kubelet’s TCP probes of pods with security groups of their own fail',
      fix: 'set DISABLE_TCP_EARLY_DEMUX=true on the init container of aws-node',
    });
  if (awsNode.NETWORK_POLICY_ENFORCING_MODE === 'strict')
    findings.push({
      id: 'aws-strict-policies',
      level: 'trap',
      what: 'pods start closed to everybody until a policy allows something: tunnels need port 15008, probes come from 169.254.7.127',
      fix: 'allow both in a NetworkPolicy, or set NETWORK_POLICY_ENFORCING_MODE=standard',
    });
  return findings;
}

function checkMultus(): Finding[] {
  return [
    seen('multus', 'Multus, which calls other networks'),
    {
      id: 'multus-standalone',
      level: 'trap',
      what: 'a plugin that is chained to Multus itself is not called for the pods’ first network',
      fix: 'install with CHAINED_CNI_PLUGIN=false and name istio-cni in a NetworkAttachmentDefinition and in v1.multus-cni.io/default-network',
    },
  ];
}
