// A certificate authority on the wire for peers that cannot sign for themselves: `CreateCertificate` over TLS, for anyone,
// in the name that the request carries. For tests only.

import http2 from 'node:http2';
import type net from 'node:net';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { certificateService } from '#proto/citadel.ts';
import { type Authority, parseCsr } from '#tls/issue.ts';

const { input, output } = certificateService.method.createCertificate;
const FRAME_HEADER_BYTES = 5;

/** A server that its caller makes listen. */
export async function serveCa(authority: Authority, ips: readonly string[]): Promise<net.Server> {
  const { certPem, keyPem } = await authority.issue({ ips, server: true, validForMs: 3_600_000 });
  const server = http2.createSecureServer({ cert: certPem, key: keyPem!, minVersion: 'TLSv1.3' });
  server.on('stream', (stream: http2.ServerHttp2Stream) => {
    const chunks: Buffer[] = [];
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      sign(authority, Buffer.concat(chunks).subarray(FRAME_HEADER_BYTES)).then(
        (answer) => {
          stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
          stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
          const header = Buffer.alloc(FRAME_HEADER_BYTES);
          header.writeUInt32BE(answer.length, 1);
          stream.end(Buffer.concat([header, answer]));
        },
        (error: unknown) =>
          stream.respond(
            {
              'content-type': 'application/grpc',
              'grpc-status': '3',
              'grpc-message': encodeURIComponent(String(error)),
            },
            { endStream: true },
          ),
      );
    });
  });
  return server;
}

async function sign(authority: Authority, request: Uint8Array): Promise<Uint8Array> {
  const { csr, validityDuration } = fromBinary(input, request);
  const { publicKeySpki, uris } = parseCsr(csr);
  const leaf = await authority.issue({
    uris,
    publicKey: publicKeySpki,
    validForMs: Number(validityDuration) * 1000,
  });
  return toBinary(output, create(output, { certChain: [leaf.certPem, authority.certPem] }));
}
