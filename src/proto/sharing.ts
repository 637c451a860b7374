// Values that many workloads have in common, kept once: the pods of a deployment differ in name and address only.
// Bounded by forgetting: what is dropped here lives on in those who have it, and newcomers share among themselves.

import type { Locality, PortMap, ServiceKey, Workload } from '#model/workload.ts';

/** About as many names as a large mesh has; beyond it the memory would be ours alone. */
const MAX_ENTRIES = 20_000;

type Services = Workload['services'];

export class Sharing {
  readonly #texts = new Map<string, string>();
  readonly #ports = new Map<string, PortMap>();
  readonly #services = new Map<string, Services>();
  readonly #localities = new Map<string, Locality>();

  text(value: string): string {
    return value === '' ? '' : shared(this.#texts, value, () => value);
  }

  texts(values: readonly string[]): readonly string[] {
    return values.length === 0 ? NO_TEXTS : values.map((value) => this.text(value));
  }

  locality(region: string, zone: string, subzone: string): Locality {
    // NUL is in no name.
    return shared(this.#localities, `${region}\0${zone}\0${subzone}`, () => ({ region, zone, subzone }));
  }

  services(entries: readonly (readonly [ServiceKey, PortMap])[]): Services {
    let key = '';
    for (const [name, ports] of entries) key += `${name}\0${portsKey(ports)}\n`;
    return shared(
      this.#services,
      key,
      () =>
        new Map(
          entries.map(([name, ports]) => [
            this.text(name) as ServiceKey,
            shared(this.#ports, portsKey(ports), () => ports),
          ]),
        ),
    );
  }
}

const NO_TEXTS: readonly string[] = Object.freeze([]);

function portsKey(ports: PortMap): string {
  let key = '';
  for (const [service, target] of ports) key += `${service}:${target},`;
  return key;
}

function shared<T>(known: Map<string, T>, key: string, make: () => T): T {
  let value = known.get(key);
  if (value === undefined) {
    if (known.size >= MAX_ENTRIES) known.clear();
    value = make();
    known.set(key, value);
  }
  return value;
}
