// Asks Istio's certificate authority to sign, over a gRPC channel (ztunnel.md §4.1–4.2). Keys, caching and retries are
// tls/secrets.ts's matter.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '#base/errors.ts';
import { certificateService } from '#proto/citadel.ts';
import type { CertificateAuthorityClient } from '#tls/secret.ts';
import type { GrpcChannel } from './client.ts';
import { GRPC_INVALID_ARGUMENT, GRPC_PERMISSION_DENIED, GRPC_UNAUTHENTICATED } from './status.ts';

const { input: requestSchema, output: responseSchema } = certificateService.method.createCertificate;
const CREATE_CERTIFICATE = '/istio.v1.auth.IstioCertificateService/CreateCertificate';

/** An answer that never comes would hold one of the few places for concurrent requests. */
const DEADLINE_MS = 30_000;

/** The authority looked at the request and said no; anything else may pass by itself. */
const REFUSALS: ReadonlySet<unknown> = new Set([
  GRPC_INVALID_ARGUMENT,
  GRPC_PERMISSION_DENIED,
  GRPC_UNAUTHENTICATED,
]);

/** `impersonate`: we ask in the name of others' workloads; otherwise the identity is the one our token proves. */
export function createCaClient(
  channel: GrpcChannel,
  options: { readonly impersonate: boolean } = { impersonate: true },
): CertificateAuthorityClient {
  return {
    async sign(identity, csrPem, ttlSeconds) {
      const request = create(requestSchema, {
        csr: csrPem,
        validityDuration: BigInt(ttlSeconds),
        // The key's spelling is the contract with istiod.
        ...(options.impersonate ? { metadata: { ImpersonatedIdentity: identity } } : {}),
      });
      const bytes = await channel
        .unary(CREATE_CERTIFICATE, toBinary(requestSchema, request), {
          deadlineMs: DEADLINE_MS,
        })
        .catch((error: unknown) => {
          throw refusalOf(error, identity);
        });
      return read(bytes).certChain;
    },
  };
}

function read(bytes: Uint8Array) {
  try {
    return fromBinary(responseSchema, bytes);
  } catch (error) {
    throw MeshError.from(error, 'CERTIFICATE_INVALID', "the certificate authority's answer cannot be read");
  }
}

function refusalOf(error: unknown, identity: string): unknown {
  if (!(error instanceof MeshError) || !REFUSALS.has(error.details.code)) return error;
  return new MeshError(
    'CA_REFUSED',
    `the certificate authority refuses to sign for ${identity}: ${error.details.message}`,
    { cause: error, details: error.details },
  );
}
