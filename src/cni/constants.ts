// Numbers and names of in-pod redirection that peers and operators rely on (cni.md A.2).

/** ztunnel marks every packet of its own sockets in a pod. */
export const ZTUNNEL_MARK = 0x539;
/** Connection mark of flows that ztunnel opened towards the application: brings the replies back to it. */
export const PROXIED_MARK = 0x111;
export const MARK_MASK = 0xfff;
/** Connection mark, beside those of the field, of older connections whose first packet may still come again. */
export const CONNECTING_MARK = 0x1000;
export const ROUTE_TABLE = 100;
export const RULE_PRIORITY = 32_764;

export const OUTBOUND_PORT = 15_001;
export const INBOUND_PLAINTEXT_PORT = 15_006;
export const INBOUND_HBONE_PORT = 15_008;
export const DNS_PORT = 15_053;

/** What the node's own probes look like inside a pod. */
export const PROBE_SOURCE_V4 = '169.254.7.127';
export const PROBE_SOURCE_V6 = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';

export const NAT_TABLE = 'istio-ambient-nat';
export const MANGLE_TABLE = 'istio-ambient-mangle';
export const RAW_TABLE = 'istio-ambient-raw';
export const PROBE_SET_V4 = 'istio-inpod-probes-v4';
export const PROBE_SET_V6 = 'istio-inpod-probes-v6';

export const DATAPLANE_MODE_LABEL = 'istio.io/dataplane-mode';
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';
export const SIDECAR_STATUS_ANNOTATION = 'sidecar.istio.io/status';
export const BYPASS_INBOUND_ANNOTATION = 'ambient.istio.io/bypass-inbound-capture';
export const DNS_CAPTURE_ANNOTATION = 'ambient.istio.io/dns-capture';
export const VIRTUAL_INTERFACES_ANNOTATION = 'istio.io/reroute-virtual-interfaces';

/** `close`: connections older than the pod's enrolment end with it. `keep`: they go on, where policy lets them. */
export const OLDER_CONNECTIONS_ANNOTATION = 'culvert.local/older-connections';

export const PLUGIN_SOCKET = 'pluginevent.sock';
export const PLUGIN_PATH = '/cmdadd';
export const CHECK_PATH = '/cmdcheck';
export const STATUS_PATH = '/cmdstatus';
export const PLUGIN_TYPE = 'culvert-cni';
