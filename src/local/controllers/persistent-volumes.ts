// PersistentVolumes and claims on them: bound to one another, made as directories of a node for the classes of that
// provisioner, kept or taken away when their claim goes. volume-binding.ts says which volume a claim gets.

import { objectKey } from '#k8s/informer.ts';
import { NODES, PODS, type Pod } from '#k8s/objects.ts';
import { isAlreadyExists, isNotFound } from '#k8s/status.ts';
import {
  DIRECTORY_PROVISIONER,
  NO_PROVISIONER,
  NODE_VOLUMES_DIR,
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  type PersistentVolume,
  type PersistentVolumeClaim,
  PROVISIONED_BY,
  SELECTED_NODE,
  STORAGE_CLASSES,
  type StorageClass,
} from '#k8s/storage.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { writeStatus } from './status.ts';
import {
  claimNames,
  hasGrown,
  isBound,
  isClaimOf,
  mismatch,
  volumeFor,
  waitsForConsumer,
} from './volume-binding.ts';

const HOSTNAME = 'kubernetes.io/hostname';
const BOUND_BY_US = 'pv.kubernetes.io/bound-by-controller';
const BIND_COMPLETED = 'pv.kubernetes.io/bind-completed';
const CLAIM_IN_USE = 'kubernetes.io/pvc-protection';
const VOLUME_IN_USE = 'kubernetes.io/pv-protection';

/** Takes away the directory of a volume that was made for a claim; does nothing where there is none. */
export type RemoveVolumeDirectory = (nodeName: string, volumeName: string) => Promise<void>;

export function createVolumeController(
  context: ControllerContext,
  removeDirectory: RemoveVolumeDirectory,
): WorkQueue {
  const { client, informers, log, clock } = context;
  const claims = informers.of(PERSISTENT_VOLUME_CLAIMS);
  const volumes = informers.of(PERSISTENT_VOLUMES);
  const classes = informers.of(STORAGE_CLASSES);
  const pods = informers.of(PODS);
  const nodes = informers.of(NODES);
  const eventsOf = (resource: Parameters<typeof createEvents>[2]) =>
    createEvents({ client, log, clock }, { component: 'persistentvolume-controller' }, resource);
  const claimEvents = eventsOf(PERSISTENT_VOLUME_CLAIMS);
  const volumeEvents = eventsOf(PERSISTENT_VOLUMES);
  const claimsSettled = settleOn(claims);
  const volumesSettled = settleOn(volumes);

  const setClaim = async (claim: PersistentVolumeClaim, status: PersistentVolumeClaim['status'] = {}) => {
    const written = await writeStatus(client, PERSISTENT_VOLUME_CLAIMS, claim, { ...status });
    if (written !== undefined) await claimsSettled.updated(written);
  };
  const setVolume = async (volume: PersistentVolume, status: PersistentVolume['status'] = {}) => {
    const written = await writeStatus(client, PERSISTENT_VOLUMES, volume, { ...status });
    if (written !== undefined) await volumesSettled.updated(written);
  };

  const reconcileClaim = async (key: string): Promise<void> => {
    const claim = claims.get(key);
    if (claim === undefined) return;
    if (claim.metadata.deletionTimestamp !== undefined) return release(claim);
    const volumeName = claim.spec.volumeName ?? '';
    if (volumeName === '') return findVolume(claim);
    const volume = volumes.get(volumeName);
    if (volume === undefined || (isBound(claim) && !isClaimOf(claim, volume))) {
      if (!isBound(claim)) return; // it will come
      claimEvents.record(
        claim,
        'Warning',
        'ClaimLost',
        'Bound claim has lost its PersistentVolume. Data on the volume is lost!',
      );
      return setClaim(claim, { phase: 'Lost' });
    }
    if (volume.spec.claimRef !== undefined && !isClaimOf(claim, volume)) return; // somebody else's for now
    const why = isBound(claim) ? undefined : mismatch(claim, volume);
    if (why === undefined) return bind(claim, volume);
    claimEvents.record(
      claim,
      'Warning',
      'VolumeMismatch',
      `Cannot bind to requested volume "${volumeName}": ${why}`,
    );
  };

  const findVolume = async (claim: PersistentVolumeClaim): Promise<void> => {
    const className = claim.spec.storageClassName ?? '';
    const waits = waitsForConsumer(claim, { storageClass: (name) => classes.get(name) });
    const selected = claim.metadata.annotations?.[SELECTED_NODE];
    const node = selected === undefined ? undefined : nodes.get(selected);
    const found = volumeFor(claim, volumes.all(), {
      onlyMadeForIt: waits && selected === undefined,
      ...(node === undefined ? {} : { node }),
    });
    if (found !== undefined) return bind(claim, found);
    if (waits && selected === undefined)
      claimEvents.record(
        claim,
        'Normal',
        'WaitForFirstConsumer',
        'waiting for first consumer to be created before binding',
      );
    else if (className !== '') await provision(claim, className, selected);
    else
      claimEvents.record(
        claim,
        'Normal',
        'FailedBinding',
        'no persistent volumes available for this claim and no storage class is set',
      );
  };

  const provision = async (
    claim: PersistentVolumeClaim,
    className: string,
    selected: string | undefined,
  ): Promise<void> => {
    const storageClass = classes.get(className);
    const failed = (message: string): void =>
      claimEvents.record(claim, 'Warning', 'ProvisioningFailed', message);
    if (storageClass === undefined) return failed(`storageclass.storage.k8s.io "${className}" not found`);
    const { provisioner } = storageClass;
    if (provisioner === NO_PROVISIONER) return; // somebody will make one
    if (provisioner !== DIRECTORY_PROVISIONER) {
      claimEvents.record(
        claim,
        'Normal',
        'ExternalProvisioning',
        `Waiting for a volume to be created either by the external provisioner '${provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`,
      );
      return;
    }
    if (claim.spec.volumeMode === 'Block')
      return failed('a volume of this class is a directory: it has the volumeMode Filesystem only');
    if (claim.spec.selector !== undefined)
      return failed('a claim with a selector cannot have a volume made for it');
    // Without a pod that waits for it, any node will do.
    const nodeName = selected ?? [...nodes.all()].map(({ metadata }) => metadata.name).sort()[0];
    if (nodeName === undefined) return failed('there is no node');
    const volume = directoryVolume(claim, storageClass, nodeName);
    try {
      await volumesSettled.created(await client.create(PERSISTENT_VOLUMES, volume));
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    claimEvents.record(
      claim,
      'Normal',
      'ProvisioningSucceeded',
      `Successfully provisioned volume ${volume.metadata.name}`,
    );
    queue.add(`claim ${objectKey(claim)}`);
  };

  /** Both sides say so; the volume first, so that nobody else takes it. */
  const bind = async (claim: PersistentVolumeClaim, volume: PersistentVolume): Promise<void> => {
    const { name, namespace = '', uid, resourceVersion } = claim.metadata;
    let bound = volume;
    if (volume.spec.claimRef?.uid !== uid) {
      bound = await client.patch(PERSISTENT_VOLUMES, volume.metadata.name, 'merge', {
        metadata: {
          resourceVersion: volume.metadata.resourceVersion,
          ...(volume.spec.claimRef === undefined ? { annotations: { [BOUND_BY_US]: 'yes' } } : {}),
        },
        spec: {
          claimRef: { apiVersion: 'v1', kind: PERSISTENT_VOLUME_CLAIMS.kind, namespace, name, uid },
        },
      });
      await volumesSettled.updated(bound);
    }
    // A directory holds what the disk holds: only the number grows.
    if (isBound(claim) && isDirectory(bound) && hasGrown(claim, bound)) {
      const storage = claim.spec.resources?.requests?.storage ?? '';
      bound = await client.patch(PERSISTENT_VOLUMES, volume.metadata.name, 'merge', {
        spec: { capacity: { storage } },
      });
      await volumesSettled.updated(bound);
    }
    await setVolume(bound, { phase: 'Bound' });
    let held = claim;
    if (claim.metadata.annotations?.[BIND_COMPLETED] === undefined) {
      const byUs = (claim.spec.volumeName ?? '') === '' ? { [BOUND_BY_US]: 'yes' } : {};
      held = await client.patch(
        PERSISTENT_VOLUME_CLAIMS,
        name,
        'merge',
        {
          metadata: { resourceVersion, annotations: { [BIND_COMPLETED]: 'yes', ...byUs } },
          spec: { volumeName: volume.metadata.name },
        },
        { namespace },
      );
      await claimsSettled.updated(held);
    }
    const { accessModes = [], capacity = {} } = bound.spec;
    await setClaim(held, { phase: 'Bound', accessModes, capacity });
  };

  /** A claim that is to go does so when no pod on a node has it any more. */
  const release = async (claim: PersistentVolumeClaim): Promise<void> => {
    const { name, namespace = '' } = claim.metadata;
    const isUsed = [...pods.all()].some(
      (pod) =>
        pod.metadata.namespace === namespace &&
        (pod.spec.nodeName ?? '') !== '' &&
        claimNames(pod).includes(name),
    );
    if (!isUsed) await dropFinalizer(PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_IN_USE);
  };

  const dropFinalizer = async (
    resource: typeof PERSISTENT_VOLUME_CLAIMS | typeof PERSISTENT_VOLUMES,
    object: PersistentVolumeClaim | PersistentVolume,
    finalizer: string,
  ): Promise<void> => {
    const { name, namespace, resourceVersion, finalizers = [] } = object.metadata;
    if (!finalizers.includes(finalizer)) return;
    const metadata = { resourceVersion, finalizers: finalizers.filter((each) => each !== finalizer) };
    try {
      await client.patch<PersistentVolumeClaim | PersistentVolume>(
        resource,
        name,
        'merge',
        { metadata },
        namespace === undefined ? {} : { namespace },
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  };

  const reconcileVolume = async (name: string): Promise<void> => {
    const volume = volumes.get(name);
    if (volume === undefined) return;
    const { claimRef } = volume.spec;
    const claim = claimRef === undefined ? undefined : await claimOf(volume);
    if (volume.metadata.deletionTimestamp !== undefined) {
      if (claim === undefined || volume.status?.phase !== 'Bound')
        await dropFinalizer(PERSISTENT_VOLUMES, volume, VOLUME_IN_USE);
      return;
    }
    if (claimRef === undefined) return setVolume(volume, { phase: 'Available' });
    if (claim !== undefined) queue.add(`claim ${objectKey(claim)}`);
    // Made for a claim that is still to come.
    else if ((claimRef.uid ?? '') === '') await setVolume(volume, { phase: 'Available' });
    else await reclaim(volume);
  };

  /** Asked anew: what the copy does not know yet must not cost anybody his data. */
  const claimOf = async (volume: PersistentVolume): Promise<PersistentVolumeClaim | undefined> => {
    const { namespace = '', name = '' } = volume.spec.claimRef ?? {};
    const held = claims.get(`${namespace}/${name}`);
    if (held !== undefined && isClaimOf(held, volume)) return held;
    try {
      const found = await client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace);
      return isClaimOf(found, volume) ? found : undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  };

  const reclaim = async (volume: PersistentVolume): Promise<void> => {
    const { name } = volume.metadata;
    const { persistentVolumeReclaimPolicy: policy = 'Retain' } = volume.spec;
    if (policy === 'Delete' && isDirectory(volume)) {
      await setVolume(volume, { phase: 'Released' });
      const nodeName = nodeOfVolume(volume);
      if (nodeName !== undefined) await removeDirectory(nodeName, name);
      try {
        await client.delete(PERSISTENT_VOLUMES, name);
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
      return volumesSettled.deleted(volume);
    }
    if (policy === 'Retain') return setVolume(volume, { phase: 'Released' });
    const message = `the data of a volume that was made by hand is not taken away here (${policy}); remove it and delete the volume`;
    volumeEvents.record(volume, 'Warning', 'VolumeFailedDelete', message);
    await setVolume(volume, { phase: 'Failed', message });
  };

  // One at a time: two claims must not get one volume.
  const queue = createWorkQueue({ log }, { name: 'volumes', concurrency: 1 }, (key) => {
    const [what, name = ''] = key.split(' ');
    return what === 'claim' ? reconcileClaim(name) : reconcileVolume(name);
  });
  const claimKey = (claim: PersistentVolumeClaim): void => queue.add(`claim ${objectKey(claim)}`);
  const volumeKey = ({ metadata }: PersistentVolume): void => queue.add(`volume ${metadata.name}`);
  const waitingClaims = (): void => {
    for (const claim of claims.all()) if (!isBound(claim)) claimKey(claim);
  };
  claims.addHandlers({
    upsert: claimKey,
    remove: ({ spec }) => {
      if (spec.volumeName !== undefined) queue.add(`volume ${spec.volumeName}`);
    },
  });
  volumes.addHandlers({
    upsert(volume) {
      volumeKey(volume);
      if (volume.status?.phase === 'Available') waitingClaims();
    },
    remove: ({ spec: { claimRef } }) => {
      if (claimRef !== undefined) queue.add(`claim ${claimRef.namespace}/${claimRef.name}`);
    },
  });
  classes.addHandlers({ upsert: waitingClaims, remove: () => {} });
  const usedClaims = (pod: Pod): void => {
    for (const name of claimNames(pod)) queue.add(`claim ${pod.metadata.namespace}/${name}`);
  };
  pods.addHandlers({ upsert: () => {}, remove: usedClaims });
  return queue;
}

/** The volume of a class of directories, as the node that has it will make it when it is first mounted. */
function directoryVolume(
  { metadata, spec }: PersistentVolumeClaim,
  storageClass: StorageClass,
  nodeName: string,
): PersistentVolume {
  const name = `pvc-${metadata.uid}`;
  const { name: claimName, namespace = '', uid = '' } = metadata;
  return {
    apiVersion: 'v1',
    kind: PERSISTENT_VOLUMES.kind,
    metadata: { name, annotations: { [PROVISIONED_BY]: DIRECTORY_PROVISIONER } },
    spec: {
      accessModes: spec.accessModes ?? [],
      capacity: { storage: spec.resources?.requests?.storage ?? '0' },
      claimRef: {
        apiVersion: 'v1',
        kind: PERSISTENT_VOLUME_CLAIMS.kind,
        namespace,
        name: claimName,
        uid,
      },
      hostPath: { path: `${NODE_VOLUMES_DIR}/${name}`, type: 'DirectoryOrCreate' },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: HOSTNAME, operator: 'In', values: [nodeName] }] }],
        },
      },
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
      storageClassName: storageClass.metadata.name,
      volumeMode: 'Filesystem',
    },
  };
}

const isDirectory = ({ metadata }: PersistentVolume): boolean =>
  metadata.annotations?.[PROVISIONED_BY] === DIRECTORY_PROVISIONER;

const nodeOfVolume = ({ spec }: PersistentVolume): string | undefined =>
  spec.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.find(({ key }) => key === HOSTNAME)
    ?.values?.[0];
