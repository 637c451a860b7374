// Addresses for the pods of one node. The least recently freed comes last, so that an address is not given to another pod
// while somebody may still speak to the former one.

import { MeshError } from '#base/errors.ts';
import { type IpAddress, ip } from '#net/ip.ts';

const FIRST = 2;
const LAST = 254;

export class IpPool {
  readonly #prefix: string;
  readonly #free: IpAddress[] = [];
  readonly #used = new Set<IpAddress>();

  /** `prefix` stands before a pod's number: `10.244.1.`, `fd00:10:244:1::`. */
  constructor(prefix: string) {
    this.#prefix = prefix;
    for (let host = FIRST; host <= LAST; host++) this.#free.push(ip(`${prefix}${host}`));
  }

  /** @throws MeshError LOCAL_MACHINE_FAILED when all are in use. */
  take(): IpAddress {
    const address = this.#free.shift();
    if (address === undefined) {
      throw new MeshError(
        'LOCAL_MACHINE_FAILED',
        `no free pod address ${this.#prefix}${FIRST} to ${this.#prefix}${LAST}: a node of local mode holds ${LAST - FIRST + 1} pods`,
      );
    }
    this.#used.add(address);
    return address;
  }

  /** Marks an address of a pod that a former LOCAL started. */
  reserve(address: IpAddress): void {
    const index = this.#free.indexOf(address);
    if (index < 0) return;
    this.#free.splice(index, 1);
    this.#used.add(address);
  }

  release(address: IpAddress): void {
    if (this.#used.delete(address)) this.#free.push(address);
  }
}
