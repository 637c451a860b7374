import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
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
