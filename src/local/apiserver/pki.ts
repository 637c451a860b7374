// The keys of the emulated cluster: its authority, the administrator's certificate, the key that signs tokens. Made at
// the first start, kept in the state directory with mode 0600, so that kubeconfigs and tokens survive a restart.

import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate,
} from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';

const DAY_MS = 86_400_000;
const CA_DAYS = 3650;
const LEAF_MS = 365 * DAY_MS;
const RENEW_BEFORE_MS = 30 * DAY_MS;

export interface Pki {
  readonly authority: Authority;
  readonly caPem: string;
  readonly adminCertPem: string;
  readonly adminKeyPem: string;
  readonly serverCertPem: string;
  readonly serverKeyPem: string;
  readonly tokenKey: KeyObject;
  readonly tokenPublicKey: KeyObject;
}

export async function openPki(
  deps: { readonly clock: Clock },
  options: { readonly folder: string; readonly dnsNames: readonly string[]; readonly ips: readonly string[] },
): Promise<Pki> {
  mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  const file = (name: string): string => join(options.folder, name);
  const authority = await openAuthority(deps.clock, file('ca.crt'), file('ca.key'));
  const admin = await openAdmin(deps.clock, authority, file('admin.crt'), file('admin.key'));
  const server = await authority.issue({
    commonName: 'kube-apiserver',
    dnsNames: options.dnsNames,
    ips: options.ips,
    server: true,
    validForMs: LEAF_MS,
  });
  const tokenKey = openTokenKey(file('sa.key'));
  return {
    authority,
    caPem: authority.certPem,
    adminCertPem: admin.certPem,
    adminKeyPem: admin.keyPem,
    serverCertPem: server.certPem,
    serverKeyPem: server.keyPem!,
    tokenKey,
    tokenPublicKey: createPublicKey(tokenKey),
  };
}

async function openAuthority(clock: Clock, certFile: string, keyFile: string): Promise<Authority> {
  const kept =
    existsSync(certFile) && existsSync(keyFile)
      ? { certPem: readFileSync(certFile, 'utf8'), keyPem: readFileSync(keyFile, 'utf8') }
      : {};
  const authority = await createAuthority({
    commonName: 'culvert-cluster-ca',
    validDays: CA_DAYS,
    clock,
    ...kept,
  });
  if (!('certPem' in kept)) {
    writeSecret(keyFile, authority.keyPem);
    writeSecret(certFile, authority.certPem);
  }
  return authority;
}

async function openAdmin(
  clock: Clock,
  authority: Authority,
  certFile: string,
  keyFile: string,
): Promise<ClientCredentials> {
  if (existsSync(certFile) && existsSync(keyFile)) {
    const certPem = readFileSync(certFile, 'utf8');
    const certificate = new X509Certificate(certPem);
    const ours = certificate.checkIssued(new X509Certificate(authority.certPem));
    if (ours && Date.parse(certificate.validTo) - clock.now() > RENEW_BEFORE_MS)
      return { certPem, keyPem: readFileSync(keyFile, 'utf8') };
  }
  const issued = await issueClient(authority, 'kubernetes-admin', ['system:masters']);
  writeSecret(keyFile, issued.keyPem);
  writeSecret(certFile, issued.certPem);
  return issued;
}

export interface ClientCredentials {
  readonly certPem: string;
  readonly keyPem: string;
}

/** The common name is the user, organizations are his groups. */
export async function issueClient(
  authority: Authority,
  user: string,
  groups: readonly string[],
): Promise<ClientCredentials> {
  const issued = await authority.issue({
    commonName: user,
    organization: [...groups],
    client: true,
    validForMs: LEAF_MS,
  });
  return { certPem: issued.certPem, keyPem: issued.keyPem! };
}

function openTokenKey(keyFile: string): KeyObject {
  if (existsSync(keyFile)) return createPrivateKey(readFileSync(keyFile));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeSecret(keyFile, privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
  return privateKey;
}

/** Written aside and renamed: a kill in between leaves no half a key. */
function writeSecret(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function kubeconfigText(
  pki: Pick<Pki, 'caPem' | 'adminCertPem' | 'adminKeyPem'>,
  serverUrl: string,
): string {
  const data = (pem: string): string => Buffer.from(pem).toString('base64');
  return `apiVersion: v1
kind: Config
clusters:
- name: culvert
  cluster:
    server: ${serverUrl}
    certificate-authority-data: ${data(pki.caPem)}
users:
- name: culvert-admin
  user:
    client-certificate-data: ${data(pki.adminCertPem)}
    client-key-data: ${data(pki.adminKeyPem)}
contexts:
- name: culvert
  context:
    cluster: culvert
    user: culvert-admin
current-context: culvert
`;
}
