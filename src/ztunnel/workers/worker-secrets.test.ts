import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import { silentLogger } from '#telemetry/log.ts';
import { requestFor } from '#tls/csr.ts';
import { createAuthority, parseCsr } from '#tls/issue.ts';
import { DEFAULT_TLS_POLICY } from '#tls/options.ts';
import { readSecretMaterial, type SecretMaterial } from '#tls/workload-certificate.ts';
import { WorkerSecrets } from './worker-secrets.ts';

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;

async function issue(validForMs: number): Promise<SecretMaterial> {
  const authority = await createAuthority({ validDays: 1 });
  const { csrPem, privateKey } = await requestFor(WEB);
  const { certPem } = await authority.issue({
    uris: [WEB],
    publicKey: parseCsr(csrPem).publicKeySpki,
    validForMs,
    backdateMs: 60_000,
  });
  return readSecretMaterial(WEB, privateKey, [certPem, authority.certPem], silentLogger);
}

test('asked for once, then held; a renewed one counts at once, a forgotten one no longer', async () => {
  const [first, second] = await Promise.all([issue(3_600_000), issue(3_600_000)]);
  let asked = 0;
  const secrets = new WorkerSecrets(DEFAULT_TLS_POLICY, systemClock, async (identity) => {
    asked++;
    secrets.told(identity, first);
  });
  const got = await secrets.get(WEB);
  assert.deepEqual(got.chainPem, first.chainPem);
  assert.equal(await secrets.get(WEB), got, 'one context for all sessions');
  assert.equal(asked, 1);
  secrets.told(WEB, second);
  assert.deepEqual((await secrets.get(WEB)).chainPem, second.chainPem);
  assert.equal(asked, 1);
  secrets.told(WEB, undefined);
  await secrets.get(WEB);
  assert.equal(asked, 2);
});

test('what the owner has of a key can be given to a thread', async () => {
  const material = await issue(3_600_000);
  assert.deepEqual(structuredClone(material), material);
  assert.equal(createPrivateKey(material.keyPem).asymmetricKeyType, 'ec');
});

test('one that has expired is asked for again; the owner’s reason is the caller’s', async () => {
  const expired = await issue(1);
  const away = new MeshError('IDENTITY_UNAVAILABLE', 'the authority is away');
  const clock = { ...systemClock, now: () => Date.now() + 3_600_000 };
  const secrets = new WorkerSecrets(DEFAULT_TLS_POLICY, clock, () => Promise.reject(away));
  secrets.told(WEB, expired);
  await assert.rejects(secrets.get(WEB), away);
});

test('answered without a certificate: it is refused, not waited for', async () => {
  const secrets = new WorkerSecrets(DEFAULT_TLS_POLICY, systemClock, async () => {});
  await assert.rejects(secrets.get(WEB), { code: 'IDENTITY_UNAVAILABLE', message: /no longer needed/ });
});
