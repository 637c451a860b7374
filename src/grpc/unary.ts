// A unary method on the gRPC server: one message in, one out.

import { reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import type { GrpcMethod } from './server.ts';
import type { ServerCall } from './server-call.ts';
import { GRPC_INTERNAL, statusError, statusOf } from './status.ts';

/** `answer` rejects with `statusError` to refuse; any other error is an internal one, told to the log alone. */
export function unaryMethod(
  log: Logger,
  maxMessageBytes: number,
  answer: (request: Uint8Array, call: ServerCall) => Promise<Uint8Array>,
): GrpcMethod {
  return (call) => {
    let request: Uint8Array | undefined;
    const finish = async (): Promise<void> => {
      if (request === undefined) throw statusError(GRPC_INTERNAL, 'the request is empty');
      const response = await answer(request, call);
      call.send([response], () => call.end());
    };
    call.read(
      maxMessageBytes,
      (message) => {
        if (request !== undefined) throw statusError(GRPC_INTERNAL, 'more than one request message');
        request = message;
      },
      () => {
        finish().catch((error: unknown) => {
          const status = statusOf(error);
          if (status.code === GRPC_INTERNAL) log.error('a gRPC call failed', { error: reasonOf(error) });
          call.end(status);
        });
      },
    );
  };
}
