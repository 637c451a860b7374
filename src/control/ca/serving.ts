// The control plane's own certificate on the secure port, signed by its own authority and renewed at two thirds of its life
// (control-plane.md §5.4). Clients dial `istiod.<ns>.svc`, so that name is mandatory.

import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Signer } from './signer.ts';

export interface ServingCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface ServingNames {
  readonly systemNamespace: string;
  readonly domainSuffix: string;
  readonly customHosts: readonly string[];
}

const VALID_MS = 7 * 86_400_000;
const RENEW_AFTER_MS = (VALID_MS * 2) / 3;
const RETRY_MS = 60_000;

export function servingNames({ systemNamespace, domainSuffix, customHosts }: ServingNames): string[] {
  const inNamespace = (host: string): string => `${host}.${systemNamespace}.svc`;
  return [
    inNamespace('istiod'),
    inNamespace('istiod-remote'),
    inNamespace('istio-pilot'),
    'istiod',
    `istiod.${systemNamespace}`,
    `${inNamespace('istiod')}.${domainSuffix}`,
    ...customHosts,
  ];
}

export async function issueServing(
  { authority, chainPem }: Pick<Signer, 'authority' | 'chainPem'>,
  names: ServingNames,
): Promise<ServingCertificate> {
  const { certPem, keyPem } = await authority.issue({
    dnsNames: servingNames(names),
    server: true,
    validForMs: VALID_MS,
  });
  if (keyPem === undefined) throw new TypeError('a certificate made without a public key comes with a key');
  return { certPem: certPem + chainPem.join(''), keyPem };
}

/** Hands out a new certificate before the old one ends. Established connections keep theirs. */
export function keepServing(
  deps: { readonly scope: Scope; readonly log: Logger; readonly issue: () => Promise<ServingCertificate> },
  install: (certificate: ServingCertificate) => void,
): void {
  const { scope, log, issue } = deps;
  const renew = (): void => {
    issue().then(
      (certificate) => {
        if (scope.closed) return;
        install(certificate);
        log.info('renewed the serving certificate');
        scope.timeout(RENEW_AFTER_MS, renew);
      },
      (error: unknown) => {
        if (scope.closed) return;
        log.error('the serving certificate could not be renewed; trying again', { error: reasonOf(error) });
        scope.timeout(RETRY_MS, renew);
      },
    );
  };
  scope.timeout(RENEW_AFTER_MS, renew);
}
