// An API server in memory for the control plane's tests: objects with versions, watches, token reviews. It knows no
// schemas, no defaults and no permissions; the real one is tested elsewhere.

import { applyPatch, type Operation } from 'rfc6902';
import { MeshError } from '#base/errors.ts';
import type { KubeClient, ListOptions, WatchEvent } from '#k8s/client.ts';
import { objectKey } from '#k8s/informer.ts';
import type { KubeObject, Resource } from '#k8s/objects.ts';

type Event = WatchEvent<KubeObject>;

export interface FakeToken {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod?: { readonly name: string; readonly uid: string };
  readonly audiences?: readonly string[];
}

interface Watcher {
  readonly plural: string;
  readonly matches: (object: KubeObject) => boolean;
  readonly push: (event: Event) => void;
}

export class FakeApi {
  readonly tokens = new Map<string, FakeToken>();
  /** While true, every call fails as if nobody answered. */
  unreachable = false;
  reviews = 0;
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #watchers = new Set<Watcher>();
  #version = 1;

  readonly client: KubeClient = {
    get: async (resource, name, namespace) => {
      this.#answer();
      const found = this.#kind(resource).get(keyOf(name, namespace));
      if (found === undefined) throw status(404, 'NotFound', `${resource.plural} ${name} not found`);
      return structuredClone(found) as never;
    },
    list: async (resource, options) => {
      this.#answer();
      const matches = matcher(options ?? {});
      const items = [...this.#kind(resource).values()]
        .filter(matches)
        .map((object) => structuredClone(object));
      return { items: items as never, resourceVersion: String(this.#version) };
    },
    create: async (resource, object, namespace) => {
      this.#answer();
      const metadata = { ...object.metadata, ...(namespace === undefined ? {} : { namespace }) };
      const created = { ...object, metadata };
      if (this.#kind(resource).has(objectKey(created))) throw status(409, 'AlreadyExists', 'already exists');
      return structuredClone(this.put(resource, created)) as never;
    },
    update: async (resource, object) => {
      this.#answer();
      const held = this.#kind(resource).get(objectKey(object));
      if (held === undefined) throw status(404, 'NotFound', 'not found');
      if (held.metadata.resourceVersion !== object.metadata.resourceVersion)
        throw status(409, 'Conflict', 'the object has been modified');
      return structuredClone(this.put(resource, object)) as never;
    },
    updateStatus: () => unused(),
    patch: async (resource, name, kind, body, options) => {
      this.#answer();
      const held = this.#kind(resource).get(keyOf(name, options?.namespace));
      if (held === undefined) throw status(404, 'NotFound', 'not found');
      const changed = structuredClone(held) as KubeObject & { status?: object };
      if (kind === 'apply' && options?.subresource === 'status') {
        const { conditions } = (body as { status: { conditions: unknown } }).status;
        // One manager for each kind is all that the tests need: its conditions are all there are.
        changed.status = { ...changed.status, conditions };
      } else if (kind === 'json') {
        for (const failure of applyPatch(changed, body as Operation[]))
          if (failure !== null) throw status(422, 'Invalid', String(failure));
      } else return unused();
      return structuredClone(this.put<KubeObject>(resource as Resource, changed)) as never;
    },
    delete: async (resource, name, options) => {
      this.remove(resource, name, options?.namespace);
    },
    watch: (resource, options) => this.#watch(resource, options) as never,
    request: async (method, path, body) => {
      this.#answer();
      if (method !== 'POST' || path !== '/apis/authentication.k8s.io/v1/tokenreviews') return unused();
      this.reviews++;
      return this.#review(body as { spec: { token: string; audiences: string[] } }) as never;
    },
    stream: () => {
      throw new Error('not used');
    },
    close: () => {},
  };

  put<T extends KubeObject>(resource: Resource<T>, object: T): T {
    const objects = this.#kind(resource);
    const key = objectKey(object);
    const known = objects.get(key);
    const stored = structuredClone(object);
    stored.metadata.resourceVersion = String(++this.#version);
    stored.metadata.uid ??= known?.metadata.uid ?? `uid-${this.#version}`;
    objects.set(key, stored);
    this.#tell(resource.plural, known === undefined ? 'ADDED' : 'MODIFIED', stored);
    return stored;
  }

  remove(resource: Resource, name: string, namespace?: string): void {
    const objects = this.#kind(resource);
    const key = keyOf(name, namespace);
    const object = objects.get(key);
    if (object === undefined) return;
    objects.delete(key);
    this.#version++;
    this.#tell(resource.plural, 'DELETED', object);
  }

  get<T extends KubeObject>(resource: Resource<T>, name: string, namespace?: string): T | undefined {
    return this.#kind(resource).get(keyOf(name, namespace)) as T | undefined;
  }

  async *#watch(resource: Resource, options: Parameters<KubeClient['watch']>[1]): AsyncGenerator<Event> {
    this.#answer();
    const matches = matcher(options);
    const queue: Event[] = [];
    let wake = (): void => {};
    if (options.sendInitialEvents === true)
      for (const object of this.#kind(resource).values())
        if (matches(object)) queue.push({ type: 'ADDED', object: structuredClone(object) });
    queue.push({ type: 'BOOKMARK', resourceVersion: String(this.#version), initialEventsEnd: true });
    const watcher: Watcher = {
      plural: resource.plural,
      matches,
      push: (event) => {
        queue.push(event);
        wake();
      },
    };
    this.#watchers.add(watcher);
    const onAbort = (): void => wake();
    options.signal?.addEventListener('abort', onAbort, { once: true });
    try {
      while (options.signal?.aborted !== true) {
        const event = queue.shift();
        if (event !== undefined) yield event;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  #review({ spec }: { spec: { token: string; audiences: string[] } }): unknown {
    const token = this.tokens.get(spec.token);
    if (token === undefined) return { status: { authenticated: false, error: 'invalid bearer token' } };
    const audiences = (token.audiences ?? ['istio-ca']).filter((it) => spec.audiences.includes(it));
    if (audiences.length === 0)
      return { status: { authenticated: false, error: `token audiences do not include ${spec.audiences}` } };
    return {
      status: {
        authenticated: true,
        audiences,
        user: {
          username: `system:serviceaccount:${token.namespace}:${token.serviceAccount}`,
          groups: [
            'system:serviceaccounts',
            `system:serviceaccounts:${token.namespace}`,
            'system:authenticated',
          ],
          extra:
            token.pod === undefined
              ? {}
              : {
                  'authentication.kubernetes.io/pod-name': [token.pod.name],
                  'authentication.kubernetes.io/pod-uid': [token.pod.uid],
                },
        },
      },
    };
  }

  #tell(plural: string, type: 'ADDED' | 'MODIFIED' | 'DELETED', object: KubeObject): void {
    for (const watcher of this.#watchers)
      if (watcher.plural === plural && watcher.matches(object))
        watcher.push({ type, object: structuredClone(object) });
  }

  #kind(resource: Resource): Map<string, KubeObject> {
    const known = this.#objects.get(resource.plural);
    if (known !== undefined) return known;
    const made = new Map<string, KubeObject>();
    this.#objects.set(resource.plural, made);
    return made;
  }

  #answer(): void {
    if (this.unreachable) throw new MeshError('API_UNREACHABLE', 'the API server does not answer');
  }
}

function matcher({ namespace, fieldSelector }: ListOptions): (object: KubeObject) => boolean {
  const name = /^metadata\.name=(.+)$/.exec(fieldSelector ?? '')?.[1];
  return ({ metadata }) =>
    (namespace === undefined || metadata.namespace === namespace) &&
    (name === undefined || metadata.name === name);
}

const keyOf = (name: string, namespace: string | undefined): string =>
  namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;

const status = (code: number, reason: string, message: string): MeshError =>
  new MeshError('API_STATUS', message, { details: { status: code, reason } });

function unused(): never {
  throw new Error('this fake does not do that');
}
