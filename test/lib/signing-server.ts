// A certificate authority on the wire, for proxies that cannot sign for themselves: `CreateCertificate` over TLS, for anyone.

import http2 from 'node:http2';
import { certificateMethods } from '#control/ca/rpc.ts';
import { serveMethods } from '#grpc/server.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, type IssueOptions, parseCsr } from '#tls/issue.ts';

/**
 * A server that its caller makes listen. `serving`: the names it is reached by. `issued`: what certificates say beside, or in place
 * of, the names that a request asks for.
 */
export async function newSigningServer(
  authority: Authority,
  serving: Pick<IssueOptions, 'dnsNames' | 'ips'>,
  issued: Pick<IssueOptions, 'uris' | 'sanCritical'> = {},
): Promise<http2.Http2SecureServer> {
  const { certPem, keyPem } = await authority.issue({ ...serving, server: true, validForMs: 3_600_000 });
  const server = http2.createSecureServer({ cert: certPem, key: keyPem!, minVersion: 'TLSv1.3' });
  const methods = certificateMethods(async ({ csrPem, ttlSeconds }) => {
    const { publicKeySpki, uris } = parseCsr(csrPem);
    const validForMs = ttlSeconds * 1000;
    const leaf = await authority.issue({ uris, publicKey: publicKeySpki, validForMs, ...issued });
    return [leaf.certPem, authority.certPem];
  }, silentLogger);
  serveMethods(server, { log: silentLogger, methods });
  return server;
}
