// Where the API server is and who we are to it, from inside a pod. From outside: kubeconfig.ts.

import { MeshError, reasonOf } from '#base/errors.ts';
import type { ApiEndpoint, TlsMaterial } from './rest-transport.ts';

export type ReadFile = (path: string) => string;
export type Environment = Readonly<Record<string, string | undefined>>;

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

export const invalidConfig = (message: string, cause?: unknown): MeshError =>
  new MeshError('CONFIG_INVALID', message, cause === undefined ? {} : { cause });

export function readOrFail(readFile: ReadFile, path: string, purpose: string): string {
  try {
    return readFile(path);
  } catch (error) {
    throw invalidConfig(`cannot read ${purpose} from ${path}: ${reasonOf(error)}`, error);
  }
}

/** The endpoint every pod is given: environment variables and the service account's files. */
export function inClusterEndpoint(env: Environment, readFile: ReadFile): ApiEndpoint {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (host === undefined || host === '' || port === undefined || port === '')
    throw invalidConfig(
      'this process runs in no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; name a kubeconfig instead',
    );
  const token = (): string =>
    readOrFail(readFile, `${SERVICE_ACCOUNT_DIR}/token`, 'the service account token').trim();
  const tls = (): TlsMaterial => ({
    caPem: readOrFail(readFile, `${SERVICE_ACCOUNT_DIR}/ca.crt`, "the API server's root certificate"),
  });
  // What cannot be read is told at once.
  token();
  tls();
  return { server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`, tls, token };
}
