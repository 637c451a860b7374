// The xDS stream on our gRPC channel: translates how calls end into what the reconnect rules distinguish.

import type { GrpcChannel } from '#grpc/client.ts';
import { GRPC_OK, GRPC_UNAVAILABLE, type GrpcStatus } from '#grpc/status.ts';
import { DELTA_DISCOVERY_PATH } from '#proto/discovery.ts';
import type { OpenXdsStream, StreamEnd } from './transport.ts';

export function xdsOverGrpc(channel: Pick<GrpcChannel, 'stream'>): OpenXdsStream {
  return (handlers) => {
    const call = channel.stream(DELTA_DISCOVERY_PATH);
    let closed = false;
    call.onMessage((message) => {
      if (!closed) handlers.message(message);
    });
    call.onEnd((status) => {
      if (!closed) handlers.end(streamEnd(status));
    });
    return {
      // Requests are few and small (ACKs): waiting for `onDrain` would only add a queue in front of another.
      send: (message) => {
        call.send(message);
      },
      close: () => {
        closed = true;
        call.cancel();
      },
    };
  };
}

function streamEnd({ code, message, reached }: GrpcStatus): StreamEnd {
  if (code === GRPC_OK) return { kind: 'clean' };
  if (reached !== 'connect') return { kind: 'status', code, message };
  return code === GRPC_UNAVAILABLE ? { kind: 'unreachable', message } : { kind: 'local', message };
}
