// Asks the certificate authority for one identity, as a ztunnel would: run in a node's network by the M5 evidence.
//   ask-ca.ts HOST ROOT_PEM TOKEN IDENTITY [chain]        prints `signed` or `refused: REASON`; the certificates as JSON

import { Scope } from '#base/scope.ts';
import { createCaClient } from '#grpc/ca-client.ts';
import { createGrpcChannel } from '#grpc/client.ts';
import type { SpiffeId } from '#model/identity.ts';
import { silentLogger } from '#telemetry/log.ts';
import { requestFor } from '#tls/csr.ts';

const [host = '', rootPem = '', token = '', identity = '', print = ''] = process.argv.slice(2);
const scope = new Scope('ask-ca');
const channel = createGrpcChannel(
  { log: silentLogger, scope },
  {
    host,
    port: 15012,
    serverName: 'istiod.istio-system.svc',
    rootPem: () => rootPem,
    token: () => token,
    // As ztunnel says it: an authority for several clusters asks the caller's own about its pods.
    metadata: { clusterid: 'Kubernetes' },
  },
);
try {
  const { csrPem } = await requestFor(identity as SpiffeId);
  const chain = await createCaClient(channel).sign(identity as SpiffeId, csrPem, 3600);
  if (print === 'chain') console.log(JSON.stringify(chain));
  else console.log(chain.length >= 2 ? 'signed' : 'an answer without a root');
} catch (error) {
  console.log(`refused: ${(error as Error).message}`);
} finally {
  scope.close();
}
