// exec, attach and port-forward of a pod: the query is checked, the kubelet asked, then the connection changes its protocol.

import { MeshError } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import type { Logger } from '#telemetry/log.ts';
import type { CommandWish } from '../streams/command-client.ts';
import type { CommandRun, PodStreams } from '../streams/pod-streams.ts';
import { type Negotiated, negotiateCommand, negotiatePortForward, type Upgrade } from '../streams/upgrade.ts';
import type { ApiAnswer, ApiRequest } from './exchange.ts';
import type { Kind } from './kind.ts';
import { getStored, type ObjectsDeps } from './objects.ts';
import type { ResourcePath } from './paths.ts';
import { badRequest, methodNotAllowed, notServed, StatusError } from './status.ts';
import { chosenContainer } from './subresources.ts';

export interface PodStreamDeps extends ObjectsDeps {
  readonly podStreams: PodStreams | undefined;
  readonly log: Logger;
}

export type StreamSubresource = 'exec' | 'attach' | 'portforward';

export function servePodStreams(
  deps: PodStreamDeps,
  kind: Kind,
  path: ResourcePath & { readonly name: string },
  subresource: StreamSubresource,
  request: ApiRequest,
): ApiAnswer {
  if (request.method !== 'GET' && request.method !== 'POST') throw methodNotAllowed();
  const { podStreams } = deps;
  if (podStreams === undefined)
    throw notServed('this API server runs without a kubelet: no container can be reached');
  const stored = getStored(deps, kind, path.namespace, path.name).object;
  const pod = stored as unknown as Pod;
  if (subresource === 'portforward') {
    return upgrade(
      (request) => negotiatePortForward(deps, request),
      () => ({
        ...podStreams.portForward(pod),
        name: `pod ${pod.metadata.name}, uid ${pod.metadata.uid ?? ''}`,
      }),
    );
  }
  const { query } = request;
  const wish = commandWish(query);
  const container = chosenContainer(stored, query.get('container') ?? '');
  const command = query.getAll('command');
  if (subresource === 'exec' && command.length === 0)
    throw badRequest('you must specify command for the container');
  return upgrade<CommandRun>(
    (request) => negotiateCommand(deps, request, wish),
    () =>
      subresource === 'exec'
        ? podStreams.exec(pod, container, { command, tty: wish.tty })
        : podStreams.attach(pod, container, { stdin: wish.stdin, tty: wish.tty }),
  );
}

function upgrade<T>(negotiate: (request: Upgrade['request']) => Negotiated<T>, reach: () => T): ApiAnswer {
  return {
    kind: 'upgrade',
    begin: (upgrade) => {
      const negotiated = negotiate(upgrade.request);
      if (negotiated.kind === 'refused')
        throw new StatusError(
          negotiated.code,
          negotiated.code === 400 ? 'BadRequest' : 'Forbidden',
          negotiated.message,
        );
      negotiated.start(upgrade, reachable(reach));
    },
  };
}

/** The kubelet's refusal is the answer to the request, with its own words. */
function reachable<T>(reach: () => T): T {
  try {
    return reach();
  } catch (error) {
    throw error instanceof MeshError ? badRequest(error.message) : error;
  }
}

function commandWish(query: URLSearchParams): CommandWish {
  const flag = (name: string): boolean => query.get(name) === 'true' || query.get(name) === '1';
  const wish = { stdin: flag('stdin'), stdout: flag('stdout'), stderr: flag('stderr'), tty: flag('tty') };
  if (!wish.stdin && !wish.stdout && !wish.stderr)
    throw badRequest('you must specify at least one of stdin, stdout, stderr');
  return wish;
}
