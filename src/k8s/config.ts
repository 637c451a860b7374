// Where the API server is and who we are to it: from inside a pod, or from a kubeconfig.
// Credentials of plugins (exec, auth providers) are named and refused.

import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { ApiEndpoint } from './rest-transport.ts';

export type ReadFile = (path: string) => string;
export type Environment = Readonly<Record<string, string | undefined>>;

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

const invalid = (message: string, cause?: unknown): MeshError =>
  new MeshError('CONFIG_INVALID', message, cause === undefined ? {} : { cause });

function readOrFail(readFile: ReadFile, path: string, purpose: string): string {
  try {
    return readFile(path);
  } catch (error) {
    throw invalid(`cannot read ${purpose} from ${path}: ${reasonOf(error)}`, error);
  }
}

/** The endpoint every pod is given: environment variables and the service account's files. */
export function inClusterEndpoint(env: Environment, readFile: ReadFile): ApiEndpoint {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (host === undefined || host === '' || port === undefined || port === '')
    throw invalid(
      'this process runs in no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; name a kubeconfig instead',
    );
  const token = (): string =>
    readOrFail(readFile, `${SERVICE_ACCOUNT_DIR}/token`, 'the service account token').trim();
  token();
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    caPem: readOrFail(readFile, `${SERVICE_ACCOUNT_DIR}/ca.crt`, "the API server's root certificate"),
    token,
  };
}

interface Named<Key extends string, Value> {
  readonly entries: readonly ({ readonly name?: string } & { readonly [key in Key]?: Value })[];
}
interface Cluster {
  readonly server?: string;
  readonly 'certificate-authority'?: string;
  readonly 'certificate-authority-data'?: string;
  readonly 'insecure-skip-tls-verify'?: boolean;
}
interface User {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly exec?: { readonly command?: string };
  readonly 'auth-provider'?: { readonly name?: string };
}
interface KubeconfigFile {
  readonly 'current-context'?: string;
  readonly contexts?: Named<'context', { readonly cluster?: string; readonly user?: string }>['entries'];
  readonly clusters?: Named<'cluster', Cluster>['entries'];
  readonly users?: Named<'user', User>['entries'];
}

export interface KubeconfigFiles {
  readonly readFile: ReadFile;
  /** Where the kubeconfig lies: relative file references start there. */
  readonly path: string;
}

const noFiles: KubeconfigFiles = {
  path: 'kubeconfig',
  readFile: () => {
    throw new Error('file references are not followed here');
  },
};

/** The endpoint of one context (the current one unless named). */
export function kubeconfigEndpoint(
  text: string,
  contextName?: string,
  files: KubeconfigFiles = noFiles,
): ApiEndpoint {
  const config = parseKubeconfig(text, files.path);
  const name = contextName ?? config['current-context'] ?? '';
  if (name === '') throw invalid(`${files.path} has no current-context; name a context`);
  const context = config.contexts?.find((entry) => entry.name === name)?.context;
  if (context === undefined) throw invalid(`${files.path} has no context ${name}`);
  const cluster = config.clusters?.find((entry) => entry.name === context.cluster)?.cluster;
  if (cluster === undefined)
    throw invalid(
      `context ${name} of ${files.path} names the cluster ${context.cluster}, which is not there`,
    );
  const user = config.users?.find((entry) => entry.name === context.user)?.user;
  if (user === undefined && context.user !== undefined && context.user !== '')
    throw invalid(`context ${name} of ${files.path} names the user ${context.user}, which is not there`);
  if (typeof cluster.server !== 'string')
    throw invalid(`cluster ${context.cluster} of ${files.path} has no server`);
  if (cluster['insecure-skip-tls-verify'] === true)
    throw invalid(
      `cluster ${context.cluster} of ${files.path} sets insecure-skip-tls-verify, which is not supported: give its certificate-authority`,
    );

  const material = (
    data: string | undefined,
    path: string | undefined,
    purpose: string,
  ): string | undefined => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8');
    return path === undefined ? undefined : readOrFail(files.readFile, inPlace(files, path), purpose);
  };
  const caPem = material(
    cluster['certificate-authority-data'],
    cluster['certificate-authority'],
    "the cluster's root certificate",
  );
  if (caPem === undefined)
    throw invalid(`cluster ${context.cluster} of ${files.path} has no certificate-authority`);
  return {
    server: cluster.server.replace(/\/+$/, ''),
    caPem,
    ...credentials(user ?? {}, context.user ?? '', files, material),
  };
}

function credentials(
  user: User,
  name: string,
  files: KubeconfigFiles,
  material: (data: string | undefined, path: string | undefined, purpose: string) => string | undefined,
): Pick<ApiEndpoint, 'token' | 'clientCertPem' | 'clientKeyPem'> {
  const unsupported =
    user.exec !== undefined
      ? `the plugin ${user.exec.command ?? 'exec'}`
      : user['auth-provider'] !== undefined
        ? `the auth provider ${user['auth-provider'].name ?? ''}`
        : user.username !== undefined
          ? 'a user name and password'
          : undefined;
  if (unsupported !== undefined)
    throw invalid(
      `user ${name} of ${files.path} signs in with ${unsupported}, which is not supported: use a token or a client certificate`,
    );
  const clientCertPem = material(
    user['client-certificate-data'],
    user['client-certificate'],
    'the client certificate',
  );
  const clientKeyPem = material(user['client-key-data'], user['client-key'], 'the client key');
  if ((clientCertPem === undefined) !== (clientKeyPem === undefined))
    throw invalid(`user ${name} of ${files.path} needs both a client certificate and its key`);
  const { token, tokenFile } = user;
  return {
    ...(clientCertPem === undefined || clientKeyPem === undefined ? {} : { clientCertPem, clientKeyPem }),
    ...(tokenFile !== undefined
      ? { token: () => readOrFail(files.readFile, inPlace(files, tokenFile), 'the token').trim() }
      : token !== undefined
        ? { token: () => token }
        : {}),
  };
}

const inPlace = (files: KubeconfigFiles, path: string): string => resolve(dirname(files.path), path);

function parseKubeconfig(text: string, path: string): KubeconfigFile {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw invalid(`${path} is no YAML: ${reasonOf(error).split('\n')[0]}`, error);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`${path} is no kubeconfig`);
  for (const part of ['contexts', 'clusters', 'users'] as const)
    if (part in value && !Array.isArray((value as KubeconfigFile)[part] ?? []))
      throw invalid(`${path} is no kubeconfig: ${part} is no list`);
  return value as KubeconfigFile;
}
