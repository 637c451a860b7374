// IstioCertificateService on the secure xDS port: translates the call into a CertificateRequest and failures into gRPC
// codes (control-plane.md §5.1). Deciding and signing is certificate-service.ts.

import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { MeshError } from '#base/errors.ts';
import { certificateService } from '#proto/citadel.ts';
import type { CertificateService, CertificateStatus } from './certificate-service.ts';
import { bearerToken } from './token-review.ts';

const CODES: Readonly<Record<CertificateStatus, Code>> = {
  UNAUTHENTICATED: Code.Unauthenticated,
  INVALID_ARGUMENT: Code.InvalidArgument,
  INTERNAL: Code.Internal,
  UNAVAILABLE: Code.Unavailable,
};

export function registerCertificateService(router: ConnectRouter, sign: CertificateService): void {
  router.rpc(certificateService.method.createCertificate, async (request, { requestHeader }) => {
    const impersonated = request.metadata?.ImpersonatedIdentity;
    try {
      const certChain = await sign({
        token: bearerToken(requestHeader.get('authorization')),
        clusterId: requestHeader.get('clusterid') ?? '',
        csrPem: request.csr,
        ttlSeconds: Number(request.validityDuration),
        impersonated: typeof impersonated === 'string' ? impersonated : undefined,
      });
      return { certChain: [...certChain] };
    } catch (error) {
      const failure = MeshError.from(error, 'CA_REFUSED', 'signing failed');
      throw new ConnectError(
        failure.message,
        CODES[failure.details.status as CertificateStatus] ?? Code.Internal,
      );
    }
  });
}
