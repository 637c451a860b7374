// Credential plugins of a kubeconfig (client.authentication.k8s.io): a program that prints a token or a certificate.
// It is run when its credentials are first needed, and again when they have expired.

import { reasonOf } from '#base/errors.ts';
import { invalidConfig } from './config.ts';
import type { TlsMaterial } from './rest-transport.ts';

/** Who a user of a kubeconfig is; both are read anew whenever they are used. */
export interface Credentials {
  readonly certificate?: () => Pick<TlsMaterial, 'clientCertPem' | 'clientKeyPem'>;
  readonly token?: () => string;
}

export interface ExecPlugin {
  readonly apiVersion?: string;
  readonly command?: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly { readonly name: string; readonly value: string }[] | null;
  readonly installHint?: string;
}

export interface PluginRun {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface PluginDeps {
  /** Runs to the end; returns what it printed. Throws when it cannot be started or fails. */
  readonly run: (run: PluginRun) => string;
  readonly now: () => number;
}

interface ExecStatus {
  readonly token?: string;
  readonly clientCertificateData?: string;
  readonly clientKeyData?: string;
  readonly expirationTimestamp?: string;
}

/** @throws MeshError CONFIG_INVALID */
export function pluginCredentials(
  deps: PluginDeps,
  plugin: ExecPlugin,
  place: { readonly user: string; readonly path: string },
): Credentials {
  let status = askPlugin(deps, plugin, place);
  const current = (): ExecStatus => {
    const expiresAt = Date.parse(status.expirationTimestamp ?? '');
    if (expiresAt <= deps.now()) status = askPlugin(deps, plugin, place);
    return status;
  };
  return {
    ...(status.clientCertificateData === undefined
      ? {}
      : {
          certificate: () => {
            const { clientCertificateData: clientCertPem, clientKeyData: clientKeyPem } = current();
            return { clientCertPem, clientKeyPem };
          },
        }),
    ...(status.token === undefined ? {} : { token: () => current().token ?? '' }),
  };
}

function askPlugin(
  deps: PluginDeps,
  plugin: ExecPlugin,
  { user, path }: { readonly user: string; readonly path: string },
): ExecStatus {
  const { apiVersion = '', command = '' } = plugin;
  const who = `user ${user} of ${path}: the credential plugin ${command === '' ? '(no command)' : command}`;
  if (command === '') throw invalidConfig(`${who} cannot be run`);
  if (!/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(apiVersion))
    throw invalidConfig(`${who} speaks ${apiVersion || 'no version'}; v1 and v1beta1 are supported`);
  const request = { apiVersion, kind: 'ExecCredential', spec: { interactive: false } };
  let printed: string;
  try {
    printed = deps.run({
      command,
      args: plugin.args ?? [],
      env: {
        ...Object.fromEntries((plugin.env ?? []).map(({ name, value }) => [name, value])),
        KUBERNETES_EXEC_INFO: JSON.stringify(request),
      },
    });
  } catch (error) {
    const hint = plugin.installHint === undefined ? '' : ` (${plugin.installHint.trim()})`;
    throw invalidConfig(`${who} failed: ${reasonOf(error)}${hint}`, error);
  }
  let answer: { readonly kind?: string; readonly status?: ExecStatus };
  try {
    answer = JSON.parse(printed) as typeof answer;
  } catch (error) {
    // What it printed may be a secret: it is not shown.
    throw invalidConfig(`${who} printed no JSON`, error);
  }
  const { kind, status } = answer;
  if (kind !== 'ExecCredential' || status === undefined || status === null)
    throw invalidConfig(`${who} printed no ExecCredential with a status`);
  if (status.token === undefined && status.clientCertificateData === undefined)
    throw invalidConfig(`${who} gave neither a token nor a certificate`);
  if ((status.clientCertificateData === undefined) !== (status.clientKeyData === undefined))
    throw invalidConfig(`${who} gave a client certificate without its key, or a key without one`);
  return status;
}
