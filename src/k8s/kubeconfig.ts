// Kubeconfig files: several are merged as kubectl merges them, one context is chosen, and what it names becomes the
// endpoint of a client. What cannot be used (a proxy, a password, unverified TLS) is named and refused.

import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { MeshError, reasonOf } from '#base/errors.ts';
import { invalidConfig, type ReadFile, readOrFail } from './config.ts';
import { type Credentials, type ExecPlugin, type PluginDeps, pluginCredentials } from './exec-plugin.ts';
import type { ApiEndpoint, TlsMaterial } from './rest-transport.ts';

interface Cluster {
  readonly server?: string;
  readonly 'certificate-authority'?: string;
  readonly 'certificate-authority-data'?: string;
  readonly 'insecure-skip-tls-verify'?: boolean;
  readonly 'tls-server-name'?: string;
  readonly 'proxy-url'?: string;
}
interface User {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly exec?: ExecPlugin;
  readonly 'auth-provider'?: { readonly name?: string };
}
interface Context {
  readonly cluster?: string;
  readonly user?: string;
  readonly namespace?: string;
}
interface KubeconfigFile {
  readonly 'current-context'?: string;
  readonly contexts?: readonly { readonly name?: string; readonly context?: Context }[];
  readonly clusters?: readonly { readonly name?: string; readonly cluster?: Cluster }[];
  readonly users?: readonly { readonly name?: string; readonly user?: User }[];
}

/** An entry remembers its file: relative paths start there. */
interface Placed<Value> {
  readonly value: Value;
  readonly path: string;
}

export interface Kubeconfig {
  /** The files read, for messages. */
  readonly source: string;
  readonly currentContext: string | undefined;
  readonly contexts: ReadonlyMap<string, Placed<Context>>;
  readonly clusters: ReadonlyMap<string, Placed<Cluster>>;
  readonly users: ReadonlyMap<string, Placed<User>>;
}

export interface KubeconfigText {
  readonly path: string;
  readonly text: string;
}

export interface EndpointDeps {
  readonly readFile: ReadFile;
  /** Undefined: credential plugins are refused. */
  readonly plugins?: PluginDeps;
}

/** Where a context leads: the endpoint, and the namespace its commands are about. */
export interface ChosenContext {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly endpoint: ApiEndpoint;
}

/** The first file that names something wins, as in kubectl; the first current-context, too. */
export function mergeKubeconfigs(files: readonly KubeconfigText[]): Kubeconfig {
  const contexts = new Map<string, Placed<Context>>();
  const clusters = new Map<string, Placed<Cluster>>();
  const users = new Map<string, Placed<User>>();
  let currentContext: string | undefined;
  const add = <Value>(
    into: Map<string, Placed<Value>>,
    name: string | undefined,
    value: Value | undefined,
    path: string,
  ): void => {
    if (name !== undefined && !into.has(name) && value !== undefined && value !== null)
      into.set(name, { value, path });
  };
  for (const { path, text } of files) {
    const file = parseKubeconfig(text, path);
    if (currentContext === undefined || currentContext === '') currentContext = file['current-context'];
    for (const { name, context } of file.contexts ?? []) add(contexts, name, context, path);
    for (const { name, cluster } of file.clusters ?? []) add(clusters, name, cluster, path);
    for (const { name, user } of file.users ?? []) add(users, name, user, path);
  }
  return { source: files.map(({ path }) => path).join(', '), currentContext, contexts, clusters, users };
}

/** The current context unless one is named. @throws MeshError CONFIG_INVALID */
export function chooseContext(
  config: Kubeconfig,
  wanted: string | undefined,
  deps: EndpointDeps,
): ChosenContext {
  const { source } = config;
  const name = wanted ?? config.currentContext ?? '';
  if (name === '') throw invalidConfig(`${source} has no current-context; name a context`);
  const context = config.contexts.get(name)?.value;
  if (context === undefined) {
    const known = [...config.contexts.keys()].join(', ');
    throw invalidConfig(`${source} has no context ${name}${known === '' ? '' : ` (there are: ${known})`}`);
  }
  const cluster = config.clusters.get(context.cluster ?? '');
  if (cluster === undefined)
    throw invalidConfig(
      `context ${name} of ${source} names the cluster ${context.cluster}, which is not there`,
    );
  const user = config.users.get(context.user ?? '');
  if (user === undefined && context.user !== undefined && context.user !== '')
    throw invalidConfig(`context ${name} of ${source} names the user ${context.user}, which is not there`);
  const { server, serverName, roots } = clusterEndpoint(cluster, context.cluster ?? '', deps);
  const { certificate, token } = user === undefined ? {} : credentials(user, context.user ?? '', deps);
  const tls = (): TlsMaterial => ({ caPem: roots(), ...certificate?.() });
  // What cannot be read is told at once.
  tls();
  return {
    name,
    namespace: context.namespace,
    endpoint: {
      server,
      tls,
      ...(serverName === undefined ? {} : { serverName }),
      ...(token === undefined ? {} : { token }),
    },
  };
}

/** The endpoint of a single file's text that refers to no other files unless a reader is given. */
export function kubeconfigEndpoint(
  text: string,
  contextName?: string,
  file: { readonly path: string; readonly readFile: ReadFile } = noFiles,
): ApiEndpoint {
  const merged = mergeKubeconfigs([{ path: file.path, text }]);
  return chooseContext(merged, contextName, { readFile: file.readFile }).endpoint;
}

const noFiles = {
  path: 'kubeconfig',
  readFile: (): string => {
    throw new Error('file references are not followed here');
  },
};

type Material = (data: string | undefined, path: string | undefined, purpose: string) => string | undefined;

const materialOf =
  ({ readFile }: EndpointDeps, origin: string): Material =>
  (data, path, purpose) => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8');
    return path === undefined ? undefined : readOrFail(readFile, resolve(dirname(origin), path), purpose);
  };

function clusterEndpoint(
  { value: cluster, path }: Placed<Cluster>,
  name: string,
  deps: EndpointDeps,
): Pick<ApiEndpoint, 'server' | 'serverName'> & { readonly roots: () => string | undefined } {
  if (typeof cluster.server !== 'string') throw invalidConfig(`cluster ${name} of ${path} has no server`);
  if (cluster['insecure-skip-tls-verify'] === true)
    throw invalidConfig(
      `cluster ${name} of ${path} sets insecure-skip-tls-verify, which is not supported: give its certificate-authority`,
    );
  if (cluster['proxy-url'] !== undefined)
    throw invalidConfig(`cluster ${name} of ${path} sets proxy-url, which is not supported`);
  // Without any the system's decide, as with kubectl.
  const roots = (): string | undefined =>
    materialOf(deps, path)(
      cluster['certificate-authority-data'],
      cluster['certificate-authority'],
      "the cluster's root certificate",
    );
  const serverName = cluster['tls-server-name'];
  return {
    server: cluster.server.replace(/\/+$/, ''),
    roots,
    ...(serverName === undefined ? {} : { serverName }),
  };
}

function credentials({ value: user, path }: Placed<User>, name: string, deps: EndpointDeps): Credentials {
  const unsupported =
    user['auth-provider'] !== undefined
      ? `the auth provider ${user['auth-provider'].name ?? ''}`
      : user.username !== undefined
        ? 'a user name and password'
        : user.exec !== undefined && deps.plugins === undefined
          ? `the plugin ${user.exec.command ?? 'exec'}`
          : undefined;
  if (unsupported !== undefined)
    throw invalidConfig(
      `user ${name} of ${path} signs in with ${unsupported}, which is not supported: use a token or a client certificate`,
    );
  const material = materialOf(deps, path);
  const isGiven = (what: 'certificate' | 'key'): boolean =>
    user[`client-${what}-data`] !== undefined || user[`client-${what}`] !== undefined;
  if (isGiven('certificate') !== isGiven('key'))
    throw invalidConfig(`user ${name} of ${path} needs both a client certificate and its key`);
  const certificate: Credentials = !isGiven('key')
    ? {}
    : {
        certificate: () => ({
          clientCertPem: material(
            user['client-certificate-data'],
            user['client-certificate'],
            'the client certificate',
          ),
          clientKeyPem: material(user['client-key-data'], user['client-key'], 'the client key'),
        }),
      };
  const { token, tokenFile, exec } = user;
  if (tokenFile !== undefined) {
    const file = resolve(dirname(path), tokenFile);
    return { ...certificate, token: () => readOrFail(deps.readFile, file, 'the token').trim() };
  }
  if (token !== undefined) return { ...certificate, token: () => token };
  if (exec !== undefined && deps.plugins !== undefined)
    return { ...certificate, ...pluginCredentials(deps.plugins, exec, { user: name, path }) };
  return certificate;
}

function parseKubeconfig(text: string, path: string): KubeconfigFile {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw invalidConfig(`${path} is no YAML: ${reasonOf(error).split('\n')[0]}`, error);
  }
  // kubectl takes an empty file for a configuration without entries.
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw invalidConfig(`${path} is no kubeconfig`);
  for (const part of ['contexts', 'clusters', 'users'] as const)
    if (part in value && !Array.isArray((value as KubeconfigFile)[part] ?? []))
      throw invalidConfig(`${path} is no kubeconfig: ${part} is no list`);
  return value as KubeconfigFile;
}

/** Which files to read: the flag's, else those of KUBECONFIG, else ~/.kube/config. */
export function kubeconfigPaths(
  flag: string | undefined,
  variable: string | undefined,
  homeDir: string,
): readonly string[] {
  if (flag !== undefined) return [flag];
  const listed = (variable ?? '').split(':').filter((path) => path !== '');
  return listed.length > 0 ? listed : [resolve(homeDir, '.kube/config')];
}

/** Reads and merges the files. Of several, missing ones are left out, as kubectl does; none at all is an error. */
export function loadKubeconfig(paths: readonly string[], readFile: ReadFile, hint: string): Kubeconfig {
  const files: KubeconfigText[] = [];
  const missing: string[] = [];
  for (const path of paths) {
    try {
      files.push({ path, text: readFile(path) });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        throw new MeshError('CONFIG_INVALID', `cannot read the kubeconfig ${path}: ${reasonOf(error)}`, {
          cause: error,
        });
      missing.push(path);
    }
  }
  if (files.length === 0)
    throw invalidConfig(`no cluster is configured: ${missing.join(', ')} does not exist; ${hint}`);
  return mergeKubeconfigs(files);
}
