// A whole data plane in a worker thread: one pod with an echo server. Says the server's port when it is up.

import { parentPort, workerData } from 'node:worker_threads';
import { application, startPlane, testAuthority, workload } from './ztunnel-rig.ts';

const { node, podIp, clientIp, certPem, keyPem } = workerData as Record<string, string>;
const authority = await testAuthority({ certPem: certPem!, keyPem: keyPem! });
const rig = await startPlane(node!, authority.client);
const pod = workload('far', podIp!, node!);
rig.plane.store.apply({
  addresses: [
    { kind: 'workload', workload: pod },
    { kind: 'workload', workload: workload('cart', clientIp!, 'n1') },
  ],
});
await rig.addPod(pod);
const { port } = await application(podIp!, (socket) => socket.pipe(socket));
parentPort?.postMessage(port);
