// Every failure code of Culvert. docs/ERRORS.md explains each; a test holds the two lists equal.

export const ERROR_CODES = [
  // Configuration and the command line
  'CONFIG_INVALID',
  'PORT_IN_USE',
  'TOOL_MISSING',
  'KERNEL_FEATURE_MISSING',
  'NAMESPACES_FORBIDDEN',
  'MANIFEST_INVALID',
  'NOT_READY',
  'REFUSED',
  // System calls
  'SYSCALL_FAILED',
  'NETNS_GONE',
  'DESCRIPTORS_EXHAUSTED',
  // Identity and TLS
  'IDENTITY_UNAVAILABLE',
  'CERTIFICATE_INVALID',
  'PEER_IDENTITY_MISMATCH',
  'CERTIFICATE_REVOKED',
  'TLS_HANDSHAKE_FAILED',
  // HBONE
  'HBONE_REFUSED',
  'HBONE_PROTOCOL',
  'HBONE_DRAINING',
  'HBONE_PEER_SILENT',
  // The data path
  'CONNECT_FAILED',
  'CONNECT_TIMEOUT',
  'POLICY_DENIED',
  'POLICY_CHANGED',
  'NO_ROUTE',
  'WORKLOAD_UNKNOWN',
  'DRAINED',
  'DNS_NO_ANSWER',
  'SOCKS_PROTOCOL',
  // Control plane seams
  'GRPC_STATUS',
  'XDS_PROTOCOL',
  'XDS_RESOURCE_REJECTED',
  'XDS_SILENT',
  'ZDS_PROTOCOL',
  'HAND_OVER_FAILED',
  'WORKER_FAILED',
  'CA_REFUSED',
  // Kubernetes API
  'API_UNREACHABLE',
  'API_STATUS',
  // CNI
  'RULES_FAILED',
  'CNI_NO_PRIMARY',
  'CNI_REFUSED',
  // Local mode
  'LOCAL_MACHINE_FAILED',
  'LOCAL_IMAGE_UNKNOWN',
  'STREAM_PROTOCOL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];
