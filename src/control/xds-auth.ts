// Who may open an xDS stream: any service account of the cluster that proves itself by a token for this audience. That it
// speaks for its own namespace only is checked by the xDS server against the node id (control-plane.md §4.6).

import { reasonOf } from '#base/errors.ts';
import { GRPC_UNAUTHENTICATED, GRPC_UNAVAILABLE, statusError } from '#grpc/status.ts';
import { formatSpiffeId } from '#model/identity.ts';
import type { XdsServerDeps } from '#xds/server.ts';
import { bearerToken, type Review, type TokenReviewer } from './ca/token-review.ts';

export interface XdsAuthOptions {
  readonly trustDomain: string;
  readonly clusterId: string;
}

export function xdsAuthenticator(
  review: TokenReviewer,
  { trustDomain, clusterId }: XdsAuthOptions,
): XdsServerDeps['authenticate'] {
  return async (header) => {
    const cluster = header('clusterid') ?? '';
    if (cluster !== '' && cluster !== clusterId)
      throw statusError(GRPC_UNAUTHENTICATED, `cluster ${cluster} is not known here`);
    let answer: Review;
    try {
      answer = await review(bearerToken(header('authorization')));
    } catch (error) {
      // The API server is away, the client may be right: it shall come back.
      throw statusError(GRPC_UNAVAILABLE, `the token could not be reviewed: ${reasonOf(error)}`, error);
    }
    if (answer.kind === 'refused')
      throw statusError(GRPC_UNAUTHENTICATED, `${answer.explain} (${answer.reason})`);
    const { namespace, serviceAccount, pod } = answer.caller;
    return {
      identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }),
      namespace,
      serviceAccount,
      ...(pod === undefined ? {} : { pod }),
    };
  };
}
