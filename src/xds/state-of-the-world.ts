// The older, state-of-the-world variant of the discovery service, for the one use that istioctl makes of it: to ask for the
// state of the control plane (control-plane.md §4.1, §10.1). Resources of the mesh are served as deltas only.

import { randomUUID } from 'node:crypto';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { ServerCall } from '#grpc/server-call.ts';
import { GRPC_RESOURCE_EXHAUSTED, GRPC_UNIMPLEMENTED, statusError, statusOf } from '#grpc/status.ts';
import { decodeStateRequest, encodeStateResponse } from '#proto/status.ts';
import { admitted, type ClientStreamDeps } from './client-stream.ts';
import { type AnswerDebug, type Caller, isDebugType } from './source.ts';

export const STATE_OF_THE_WORLD_PATH =
  '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources';

const MAX_REQUEST_BYTES = 1 << 20;

export interface DebugStreamDeps extends Pick<ClientStreamDeps, 'log' | 'version' | 'controlPlane'> {
  readonly answerDebug: AnswerDebug;
}

export function serveDebugStream(
  call: ServerCall,
  caller: Caller,
  { log, version, controlPlane, answerDebug }: DebugStreamDeps,
  identityCheck: boolean,
): void {
  let isAdmitted = false;
  /** By type: an answer to one of these is an acknowledgement. */
  const nonces = new Map<string, string>();
  let busy = false;
  const answer = (bytes: Uint8Array): void => {
    const request = decodeStateRequest(bytes);
    if (!isAdmitted) admitted(request.node, caller, identityCheck);
    isAdmitted = true;
    const { typeUrl, names, responseNonce } = request;
    if (!isDebugType(typeUrl))
      throw statusError(GRPC_UNIMPLEMENTED, `${typeUrl} is served by DeltaAggregatedResources only`);
    // The first request may carry a nonce of the client's own making: istioctl's does.
    if (nonces.get(typeUrl) === responseNonce) return;
    if (busy) throw statusError(GRPC_RESOURCE_EXHAUSTED, 'take the last answer before you ask again');
    const resources = answerDebug({ typeUrl, names, caller });
    const nonce = randomUUID();
    nonces.set(typeUrl, nonce);
    busy = true;
    call.send([encodeStateResponse({ version: version(), typeUrl, nonce, controlPlane, resources })], () => {
      busy = false;
    });
  };
  call.read(
    MAX_REQUEST_BYTES,
    (bytes) => {
      try {
        answer(bytes);
      } catch (error) {
        if (!(error instanceof MeshError))
          log.error('an xDS debug request failed', { error: reasonOf(error) });
        call.end(statusOf(error));
      }
    },
    () => call.end(),
  );
}
