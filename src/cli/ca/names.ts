// How commands call a certificate.

import type { X509Certificate } from 'node:crypto';
import { titleOf } from '#tls/authority-material.ts';

/** Roots are replaced under one name: the beginning of the SHA-256 fingerprint tells them apart. */
export const nameOf = (certificate: X509Certificate): string =>
  `${titleOf(certificate)} (${certificate.fingerprint256.slice(0, 11)})`;
