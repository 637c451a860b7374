// The EndpointSlices that one controller writes: each names its Service and its writer by label, and nobody else touches it.

import { ENDPOINT_SLICES, type EndpointSlice, type KubeObject, type Resource } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { controllerReference } from './ownership.ts';
import { childName } from './pods.ts';
import type { WorkQueue } from './queue.ts';

export const SERVICE_NAME = 'kubernetes.io/service-name';
export const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';

export type SliceContent = Pick<EndpointSlice, 'addressType' | 'endpoints' | 'ports'>;

export interface OwnSlices {
  /** Of a Service, by its key. */
  of(key: string): EndpointSlice[];
  /** The owner is of the resource, and has the Service's name. */
  create(
    resource: Resource,
    owner: KubeObject,
    labels: Readonly<Record<string, string>> | undefined,
    content: SliceContent,
  ): Promise<void>;
  update(slice: EndpointSlice): Promise<void>;
  remove(slice: EndpointSlice): Promise<void>;
  /** A slice that others changed or removed puts its Service into the queue. */
  watch(queue: WorkQueue): void;
}

export function ownSlices({ client, informers, random }: ControllerContext, writer: string): OwnSlices {
  const slices = informers.of(ENDPOINT_SLICES);
  const settled = settleOn(slices);
  const isOwn = ({ metadata }: EndpointSlice): boolean => metadata.labels?.[MANAGED_BY] === writer;
  const serviceOf = ({ metadata }: EndpointSlice): string =>
    `${metadata.namespace}/${metadata.labels?.[SERVICE_NAME]}`;
  return {
    of: (key) =>
      [...slices.all()].filter(
        (slice) => isOwn(slice) && slice.metadata.deletionTimestamp === undefined && serviceOf(slice) === key,
      ),
    create: async (resource, owner, labels, content) => {
      const { name, namespace = '' } = owner.metadata;
      const made = await client.create(ENDPOINT_SLICES, {
        apiVersion: 'discovery.k8s.io/v1',
        kind: ENDPOINT_SLICES.kind,
        metadata: {
          name: childName(name, random),
          generateName: `${name}-`,
          namespace,
          labels: { ...labels, [SERVICE_NAME]: name, [MANAGED_BY]: writer },
          ownerReferences: [controllerReference(resource, owner)],
        },
        ...content,
      });
      await settled.created(made);
    },
    update: async (slice) => settled.updated(await client.update(ENDPOINT_SLICES, slice)),
    remove: async (slice) => {
      const { name, namespace = '' } = slice.metadata;
      try {
        await client.delete(ENDPOINT_SLICES, name, { namespace });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
      await settled.deleted(slice);
    },
    watch: (queue) => {
      const enqueue = (slice: EndpointSlice): void => {
        if (isOwn(slice)) queue.add(serviceOf(slice));
      };
      slices.addHandlers({ upsert: enqueue, remove: enqueue });
    },
  };
}
