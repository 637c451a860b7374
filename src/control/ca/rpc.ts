// IstioCertificateService on the secure xDS port: translates the call into a CertificateRequest and failures into gRPC
// codes (control-plane.md §5.1). Deciding and signing is certificate-service.ts.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { GrpcMethod } from '#grpc/server.ts';
import {
  GRPC_INTERNAL,
  GRPC_INVALID_ARGUMENT,
  GRPC_UNAUTHENTICATED,
  GRPC_UNAVAILABLE,
  statusError,
} from '#grpc/status.ts';
import { unaryMethod } from '#grpc/unary.ts';
import { certificateService } from '#proto/citadel.ts';
import type { Logger } from '#telemetry/log.ts';
import type { CertificateService, CertificateStatus } from './certificate-service.ts';
import { bearerToken } from './token-review.ts';

const { input: requestSchema, output: responseSchema } = certificateService.method.createCertificate;

const CODES: Readonly<Record<CertificateStatus, number>> = {
  UNAUTHENTICATED: GRPC_UNAUTHENTICATED,
  INVALID_ARGUMENT: GRPC_INVALID_ARGUMENT,
  INTERNAL: GRPC_INTERNAL,
  UNAVAILABLE: GRPC_UNAVAILABLE,
};

/** Far above what a request may measure, so that the refusal names the reason. */
const MAX_REQUEST_BYTES = 1 << 20;

export function certificateMethods(sign: CertificateService, log: Logger): ReadonlyMap<string, GrpcMethod> {
  const createCertificate = unaryMethod(log, MAX_REQUEST_BYTES, async (bytes, call) => {
    const request = readRequest(bytes);
    const impersonated = request.metadata?.ImpersonatedIdentity;
    try {
      const certChain = await sign({
        token: bearerToken(call.header('authorization')),
        clusterId: call.header('clusterid') ?? '',
        csrPem: request.csr,
        ttlSeconds: Number(request.validityDuration),
        impersonated: typeof impersonated === 'string' ? impersonated : undefined,
      });
      return toBinary(responseSchema, create(responseSchema, { certChain: [...certChain] }));
    } catch (error) {
      const failure = MeshError.from(error, 'CA_REFUSED', 'signing failed');
      throw statusError(
        CODES[failure.details.status as CertificateStatus] ?? GRPC_INTERNAL,
        failure.message,
        error,
      );
    }
  });
  return new Map([['/istio.v1.auth.IstioCertificateService/CreateCertificate', createCertificate]]);
}

function readRequest(bytes: Uint8Array) {
  try {
    return fromBinary(requestSchema, bytes, { readUnknownFields: false });
  } catch (error) {
    throw statusError(GRPC_INVALID_ARGUMENT, `not an IstioCertificateRequest: ${reasonOf(error)}`, error);
  }
}
