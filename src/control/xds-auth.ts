// Who may open an xDS stream: any service account of the cluster that proves itself by a token for this audience. That it
// speaks for its own namespace only is checked by the xDS server against the node id (control-plane.md §4.6).

import { Code, ConnectError } from '@connectrpc/connect';
import { reasonOf } from '#base/errors.ts';
import { formatSpiffeId } from '#model/identity.ts';
import type { Caller } from '#xds/source.ts';
import { bearerToken, type Review, type TokenReviewer } from './ca/token-review.ts';

export interface XdsAuthOptions {
  readonly trustDomain: string;
  readonly clusterId: string;
}

export function xdsAuthenticator(
  review: TokenReviewer,
  { trustDomain, clusterId }: XdsAuthOptions,
): (headers: Headers) => Promise<Caller> {
  return async (headers) => {
    const cluster = headers.get('clusterid') ?? '';
    if (cluster !== '' && cluster !== clusterId)
      throw new ConnectError(`cluster ${cluster} is not known here`, Code.Unauthenticated);
    let answer: Review;
    try {
      answer = await review(bearerToken(headers.get('authorization')));
    } catch (error) {
      // The API server is away, the client may be right: it shall come back.
      throw new ConnectError(`the token could not be reviewed: ${reasonOf(error)}`, Code.Unavailable);
    }
    if (answer.kind === 'refused')
      throw new ConnectError(`${answer.explain} (${answer.reason})`, Code.Unauthenticated);
    const { namespace, serviceAccount, pod } = answer.caller;
    return {
      identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }),
      namespace,
      serviceAccount,
      ...(pod === undefined ? {} : { pod }),
    };
  };
}
