import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createHash, createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509Certificate as LibraryCertificate,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
} from '@peculiar/x509';
import type { SpiffeId } from '#model/identity.ts';
import { requestFor } from './csr.ts';
import { createAuthority, parseCsr } from './issue.ts';

const HOUR_MS = 3_600_000;
const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
const isInvalid = (error: Error): boolean => 'code' in error && error.code === 'CERTIFICATE_INVALID';

describe('an authority', () => {
  it('makes a self-signed signing certificate', async () => {
    const authority = await createAuthority({ organization: 'cluster.local', validDays: 3650 });
    const root = new X509Certificate(authority.certPem);
    assert.equal(root.subject, 'O=cluster.local');
    assert.equal(root.issuer, 'O=cluster.local');
    assert.equal(root.ca, true);
    assert.ok(root.verify(root.publicKey));
    assert.ok(root.checkPrivateKey(createPrivateKey(authority.keyPem)));
    const days = (authority.notAfter.getTime() - authority.notBefore.getTime()) / 86_400_000;
    assert.ok(days >= 3650 && days < 3651);
  });

  it('issues a workload certificate for a request: URI name only, critical, both usages', async () => {
    const authority = await createAuthority({ organization: 'cluster.local', validDays: 1 });
    const csr = parseCsr((await requestFor(WEB)).csrPem);
    const now = Date.now();
    const { certPem, keyPem } = await authority.issue({
      uris: [WEB],
      publicKey: csr.publicKeySpki,
      validForMs: HOUR_MS,
    });
    assert.equal(keyPem, undefined);
    const leaf = new X509Certificate(certPem);
    // An empty subject reads as undefined.
    assert.equal(leaf.subject, undefined);
    assert.equal(leaf.subjectAltName, `URI:${WEB}`);
    assert.equal(leaf.ca, false);
    assert.deepEqual([...leaf.keyUsage].sort(), ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    assert.ok(leaf.checkIssued(new X509Certificate(authority.certPem)));
    assert.ok(leaf.verify(new X509Certificate(authority.certPem).publicKey));
    assert.deepEqual(leaf.publicKey.export({ format: 'der', type: 'spki' }), Buffer.from(csr.publicKeySpki));
    assert.equal(leaf.serialNumber.length, 32);
    const backdatedMs = now - new Date(leaf.validFrom).getTime();
    assert.ok(backdatedMs >= 119_000 && backdatedMs < 180_000);
    // subjectAltName (2.5.29.17) followed by BOOLEAN TRUE: critical.
    assert.ok(leaf.raw.includes(Buffer.from('0603551d110101ff', 'hex')));
  });

  it('issues a serving certificate with its own key, names and addresses', async () => {
    const authority = await createAuthority({ commonName: 'root', validDays: 1 });
    const { certPem, keyPem } = await authority.issue({
      commonName: 'apiserver',
      organization: ['system:masters'],
      dnsNames: ['kubernetes.default.svc'],
      ips: ['10.96.0.1', '::1'],
      server: true,
      validForMs: HOUR_MS,
    });
    const leaf = new X509Certificate(certPem);
    assert.equal(leaf.subject, 'O=system:masters\nCN=apiserver');
    assert.equal(leaf.checkHost('kubernetes.default.svc'), 'kubernetes.default.svc');
    assert.equal(leaf.checkIP('10.96.0.1'), '10.96.0.1');
    assert.ok(leaf.checkIP('::1'));
    assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1']);
    assert.ok(leaf.checkPrivateKey(createPrivateKey(keyPem ?? '')));
    assert.ok(!leaf.raw.includes(Buffer.from('0603551d110101ff', 'hex')));
  });

  it('reads a leading # in a name as text', async () => {
    const authority = await createAuthority({ commonName: '#1,O=x', validDays: 1 });
    assert.match(new X509Certificate(authority.certPem).subject, /^CN=\\#1\\,O=x$/);
  });

  it('comes back from its own PEM, and keeps the key when the certificate is renewed', async () => {
    const first = await createAuthority({ organization: 'cluster.local', validDays: 1 });
    const loaded = await createAuthority({ validDays: 1, keyPem: first.keyPem, certPem: first.certPem });
    assert.equal(loaded.certPem, first.certPem);
    const renewed = await createAuthority({
      organization: 'cluster.local',
      validDays: 2,
      keyPem: first.keyPem,
    });
    const { certPem } = await loaded.issue({ uris: [WEB], validForMs: HOUR_MS });
    assert.ok(new X509Certificate(certPem).checkIssued(new X509Certificate(renewed.certPem)));
  });

  it('writes what a library reads: usages, constraints, key ids and names', async () => {
    const authority = await createAuthority({ organization: ['a', 'b'], commonName: 'Zoë', validDays: 1 });
    const root = new LibraryCertificate(authority.certPem);
    assert.equal(root.subject, 'O=a, O=b, CN=Zoë');
    assert.equal(root.getExtension(BasicConstraintsExtension)?.ca, true);
    assert.equal(
      root.getExtension(KeyUsagesExtension)?.usages,
      KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign,
    );
    // RFC 5280 §4.2.1.2: SHA-1 of the key's bits; those of a P-256 key are the last 65 bytes of its encoding.
    const spki = new X509Certificate(authority.certPem).publicKey.export({ format: 'der', type: 'spki' });
    const keyId = createHash('sha1').update(spki.subarray(-65)).digest('hex');
    assert.equal(root.getExtension(SubjectKeyIdentifierExtension)?.keyId, keyId);
    const { certPem } = await authority.issue({
      commonName: 'c',
      dnsNames: ['d.example'],
      ips: ['10.0.0.1', 'fd00::1'],
      uris: [WEB],
      client: true,
      sanCritical: true,
      validForMs: HOUR_MS,
    });
    const leaf = new LibraryCertificate(certPem);
    assert.equal(leaf.issuer, 'O=a, O=b, CN=Zoë');
    assert.equal(await leaf.verify({ publicKey: await root.publicKey.export() }), true);
    assert.deepEqual(
      [...leaf.extensions].map(({ type, critical }) => [type, critical]),
      [
        ['2.5.29.15', true],
        ['2.5.29.37', false],
        ['2.5.29.19', true],
        ['2.5.29.35', false],
        ['2.5.29.17', true],
      ],
    );
    const [usages] = leaf.extensions;
    assert.ok(usages instanceof KeyUsagesExtension);
    assert.equal(usages.usages, KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment);
    assert.equal(leaf.getExtension(BasicConstraintsExtension)?.ca, false);
    assert.equal(leaf.getExtension(AuthorityKeyIdentifierExtension)?.keyId, keyId);
    assert.deepEqual(leaf.getExtension(SubjectAlternativeNameExtension)?.names.toJSON(), [
      { type: 'dns', value: 'd.example' },
      { type: 'ip', value: '10.0.0.1' },
      { type: 'ip', value: 'fd00::1' },
      { type: 'url', value: WEB },
    ]);
  });

  it('dates beyond 2049 by four digits of the year, as RFC 5280 has it', async () => {
    const clock = { now: () => Date.UTC(2049, 11, 31, 23, 59, 58), monotonicMs: () => 0 };
    const authority = await createAuthority({ validDays: 36_500, clock });
    const { certPem } = await authority.issue({ uris: [WEB], validForMs: 2000, backdateMs: 0 });
    const { validFromDate, validToDate, raw } = new X509Certificate(certPem);
    assert.equal(validFromDate.toISOString(), '2049-12-31T23:59:58.000Z');
    assert.equal(validToDate.toISOString(), '2050-01-01T00:00:00.000Z');
    assert.ok(raw.includes('\x17\x0d491231235958Z\x18\x0f20500101000000Z', 0, 'latin1'));
  });

  it('refuses names that a certificate cannot hold', async () => {
    const authority = await createAuthority({ validDays: 1 });
    await assert.rejects(authority.issue({ dnsNames: ['zoë.example'], validForMs: HOUR_MS }), isInvalid);
    await assert.rejects(authority.issue({ ips: ['10.0.0'], validForMs: HOUR_MS }), isInvalid);
  });

  it('signs with an RSA key', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const keyPem = privateKey.export({ format: 'pem', type: 'pkcs1' }).toString();
    const authority = await createAuthority({ organization: 'cluster.local', validDays: 1, keyPem });
    const { certPem } = await authority.issue({ uris: [WEB], validForMs: HOUR_MS });
    assert.ok(new X509Certificate(certPem).verify(new X509Certificate(authority.certPem).publicKey));
  });

  it('never outlives its signing certificate, and refuses once that is expired', async () => {
    let nowMs = Date.UTC(2030, 0, 1);
    const clock = { now: () => nowMs, monotonicMs: () => nowMs };
    const authority = await createAuthority({ validDays: 1, clock });
    const { certPem } = await authority.issue({ uris: [WEB], validForMs: 48 * HOUR_MS });
    assert.equal(new Date(new X509Certificate(certPem).validTo).getTime(), Date.UTC(2030, 0, 2));
    nowMs = Date.UTC(2030, 0, 2);
    await assert.rejects(authority.issue({ uris: [WEB], validForMs: 1000 }), isInvalid);
  });

  it('refuses a key of another certificate and unreadable material', async () => {
    const [one, two] = await Promise.all([
      createAuthority({ validDays: 1 }),
      createAuthority({ validDays: 1 }),
    ]);
    await assert.rejects(
      createAuthority({ validDays: 1, keyPem: one.keyPem, certPem: two.certPem }),
      isInvalid,
    );
    await assert.rejects(createAuthority({ validDays: 1, keyPem: 'no key' }), isInvalid);
    await assert.rejects(one.issue({ validForMs: 1000, publicKey: Uint8Array.of(1, 2, 3) }), isInvalid);
  });
});

describe('a certificate request', () => {
  it('is refused when it cannot be read', () => {
    assert.throws(
      () => parseCsr('-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----'),
      isInvalid,
    );
    assert.throws(() => parseCsr(''), isInvalid);
  });
});
