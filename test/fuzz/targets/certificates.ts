// What comes with certificates: DER, certificates, certificate requests, and revocation lists in both their forms.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { formatSpiffeId } from '#model/identity.ts';
import { DerReader, readAuthorityConstraints, readCertificateFacts } from '#tls/certificate-facts.ts';
import { parseRevocationLists } from '#tls/crl.ts';
import { requestFor } from '#tls/csr.ts';
import { readDer, writeDer } from '#tls/der.ts';
import { type Authority, createAuthority, parseCsr } from '#tls/issue.ts';
import { newSigningCertificate } from '../../lib/authorities.ts';
import { crlPem, newCrl } from '../../lib/crls.ts';
import { refusedOr, type Target } from '../target.ts';

const INVALID = ['CERTIFICATE_INVALID'];
const WEB = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });

const derOf = (pem: string): Buffer => Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64');
const pemOf = (der: Uint8Array): string => {
  const base64 =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE REQUEST-----\n${base64.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`;
};

async function leaf(): Promise<{ readonly authority: Authority; readonly der: Buffer }> {
  const authority = await createAuthority({ organization: 'culvert', validDays: 1 });
  const { certPem } = await authority.issue({ uris: [WEB], validForMs: 3_600_000 });
  return { authority, der: new X509Certificate(certPem).raw };
}

const TOKENS = ['3000', '0500', '0101ff', '3080', '30820000', '0603551d11', '3084ffffffff', 'a000'].map(
  (text) => Buffer.from(text, 'hex'),
);

/** Elements within one another, as deep as they go. */
function walk(bytes: Uint8Array, depth: number): number {
  let count = 0;
  for (const reader = new DerReader(bytes); !reader.isEmpty; count++) {
    const { tag, content, encoded } = reader.take(reader.nextTag!);
    assert.deepEqual(writeDer(tag, content), encoded);
    if ((tag & 0x20) !== 0 && depth < 20) count += walk(content, depth + 1);
  }
  return count;
}

const der: Target = {
  name: 'der',
  maxBytes: 8192,
  seeds: async () => [(await leaf()).der, derOf((await requestFor(WEB)).csrPem)],
  tokens: TOKENS,
  run(input) {
    return refusedOr(
      INVALID,
      () => {
        const { encoded, rest } = readDer(input);
        assert.equal(encoded.length + rest.length, input.length);
        return walk(encoded, 0);
      },
      (count) => `read ${Math.min(count, 30)}`,
    );
  },
};

const certificates: Target = {
  name: 'certificates',
  seeds: async () => {
    const { authority, der } = await leaf();
    return [der, new X509Certificate(authority.certPem).raw];
  },
  tokens: TOKENS,
  run: (input) =>
    refusedOr(
      INVALID,
      () => readCertificateFacts(input),
      ({ serial, issuer, subject, subjectKeyId }) => {
        assert.match(issuer + subject + serial, /^[0-9a-f]*$/);
        return `read ${subjectKeyId !== undefined}`;
      },
    ),
};

const constraints: Target = {
  name: 'authority-constraints',
  seeds: async () => {
    const { certPem } = await newSigningCertificate({ name: 'seed', pathLength: 1 });
    const { authority } = await leaf();
    return [new X509Certificate(certPem).raw, new X509Certificate(authority.certPem).raw];
  },
  tokens: TOKENS,
  run: (input) =>
    refusedOr(
      INVALID,
      () => readAuthorityConstraints(input),
      ({ pathLength, maySign }) => {
        assert.ok(pathLength === undefined || (Number.isInteger(pathLength) && pathLength >= 0));
        return `read ${pathLength === undefined ? 'any' : Math.min(pathLength, 3)} ${maySign}`;
      },
    ),
};

const requests: Target = {
  name: 'certificate-requests',
  // DER within PEM; what the PEM itself may be is for `texts`.
  maxBytes: 4096,
  seeds: async () => [derOf((await requestFor(WEB)).csrPem), derOf((await requestFor(WEB)).csrPem)],
  tokens: TOKENS,
  run: (input) =>
    refusedOr(
      INVALID,
      () => parseCsr(pemOf(input)),
      ({ uris, signatureValid }) => {
        // What was changed under the signature is not signed.
        assert.ok(!signatureValid || uris.every((uri) => uri === WEB), uris.join());
        return `read ${Math.min(uris.length, 3)} ${signatureValid}`;
      },
    ),
};

const requestTexts: Target = {
  name: 'certificate-request-pem',
  maxBytes: 4096,
  seeds: async () => [Buffer.from((await requestFor(WEB)).csrPem)],
  tokens: ['-----BEGIN CERTIFICATE REQUEST-----', '-----END ', '\n', '=', '-----'].map((text) =>
    Buffer.from(text),
  ),
  run: (input) =>
    refusedOr(
      INVALID,
      () => parseCsr(String(input)),
      ({ uris }) => `read ${uris.length}`,
    ),
};

const revocationLists: Target = {
  name: 'revocation-lists',
  seeds: async () => {
    const { authority } = await leaf();
    const list = await newCrl(authority, { revoked: ['01', 'a1b2c3d4e5f6'] });
    const pem = crlPem(list);
    return [list, await newCrl(authority, { isVersion1: true }), Buffer.from(pem), Buffer.from(pem + pem)];
  },
  tokens: [
    ...TOKENS,
    ...['-----BEGIN X509 CRL-----', '-----END X509 CRL-----', '\n'].map((text) => Buffer.from(text)),
  ],
  run: (input) =>
    refusedOr(
      INVALID,
      () => parseRevocationLists(input),
      (lists) => `read ${Math.min(lists.length, 3)} ${lists[0]?.serials.size}`,
    ),
};

export const CERTIFICATE_TARGETS: readonly Target[] = [
  der,
  certificates,
  constraints,
  requests,
  requestTexts,
  revocationLists,
];
