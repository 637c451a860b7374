// One line per connection for the live view: who → whom, both identities, protocol, verdict. Pure.

import type { Style } from '../style.ts';
import type { AccessRecord } from './access-line.ts';

/**
 * A tunnelled connection is logged at both ends; the far end knows the verdict, so its line is shown. The near end is
 * shown when it failed before the far end could know of it, or when there is no far end (plain TCP out of the mesh).
 */
export function isWorthShowing(record: AccessRecord): boolean {
  if (record.message === 'connection opened') return false;
  if (record.fields.get('direction') === 'inbound') return true;
  const error = record.fields.get('error');
  if (error === undefined) return !record.fields.has('dst.hbone_addr');
  // The far end refused it and said why in a line of its own.
  return !/http status: 401/.test(error);
}

export function renderConnection(record: AccessRecord, style: Style): string {
  const field = (name: string): string | undefined => record.fields.get(name);
  const refusal = field('error');
  const clock = record.time.slice(11, 19);
  const from = nameOf(field('src.workload'), field('src.addr'));
  const to = nameOf(field('dst.workload'), field('dst.hbone_addr') ?? field('dst.addr'));
  const port = portOf(field('dst.hbone_addr') ?? field('dst.addr'));
  const tunnelled = field('src.identity') !== undefined && field('dst.identity') !== undefined;
  const verdict = refusal === undefined ? style.good('allowed') : style.bad('REFUSED');
  const size = `${bytes(field('bytes_recv'))} in, ${bytes(field('bytes_sent'))} out`;
  const facts = refusal === undefined ? `${size}, ${field('duration') ?? ''}` : refusal;
  const identities = tunnelled
    ? `${field('src.identity')} → ${field('dst.identity')}`
    : 'no identity: plain TCP';
  return (
    `${style.dim(clock)} ${verdict} ${style.bold(from)} → ${style.bold(`${to}:${port}`)} ` +
    `${tunnelled ? style.accent('mTLS') : 'plain'}  ${style.dim(identities)}  ${facts}`
  );
}

/** `web-5f7c9d-x2x` is shown as `web`: the replica says nothing here. */
function nameOf(workload: string | undefined, address: string | undefined): string {
  if (workload === undefined) return address?.replace(/:\d+$/, '') ?? 'unknown';
  return workload.replace(/-[a-z0-9]{6,10}-[a-z0-9]{5}$/, '');
}

function portOf(address: string | undefined): string {
  return /:(\d+)$/.exec(address ?? '')?.[1] ?? '?';
}

function bytes(text: string | undefined): string {
  const count = Number(text ?? 0);
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}
