// Which keys are good enough for a certificate: RSA from 2048 bits, ECDSA on the NIST curves that every peer's TLS knows,
// Ed25519 (NIST SP 800-57 part 1 §5.6.1: 112 bits of strength at least).

import type { KeyObject } from 'node:crypto';

const LEAST_RSA_BITS = 2048;
const CURVES: ReadonlyMap<string, string> = new Map([
  ['prime256v1', 'P-256'],
  ['secp384r1', 'P-384'],
  ['secp521r1', 'P-521'],
]);

/** Undefined when it is strong enough. */
export function keyWeakness(key: KeyObject): string | undefined {
  const { modulusLength = 0, publicExponent = 0n, namedCurve = 'unknown' } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss':
      if (modulusLength < LEAST_RSA_BITS)
        return `an RSA key of ${modulusLength} bits is too short; ${LEAST_RSA_BITS} are the least`;
      return publicExponent < 3n
        ? `an RSA key with the exponent ${publicExponent} protects nothing`
        : undefined;
    case 'ec':
      return CURVES.has(namedCurve)
        ? undefined
        : `the curve ${namedCurve} is not supported; use P-256, P-384 or P-521`;
    case 'ed25519':
      return undefined;
    default:
      return `keys of type ${key.asymmetricKeyType} are not supported; use ECDSA, RSA or Ed25519`;
  }
}

/** `ECDSA P-256`, `RSA 2048`. */
export function describeKey({ asymmetricKeyType, asymmetricKeyDetails = {} }: KeyObject): string {
  const { modulusLength, namedCurve } = asymmetricKeyDetails;
  if (namedCurve !== undefined) return `ECDSA ${CURVES.get(namedCurve) ?? namedCurve}`;
  if (modulusLength !== undefined) return `RSA ${modulusLength}`;
  return asymmetricKeyType ?? 'unknown';
}
