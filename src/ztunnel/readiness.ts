// What must have happened before this node's ztunnel calls itself ready (ztunnel.md §1.10).

export interface Readiness {
  /** Blocks readiness until `complete`; blocking again later takes readiness back. */
  block(task: string): void;
  complete(task: string): void;
  /** Sorted names of what is missing; empty means ready. */
  pending(): readonly string[];
}

export function createReadiness(tasks: readonly string[]): Readiness {
  const waiting = new Set(tasks);
  return {
    block: (task) => waiting.add(task),
    complete: (task) => waiting.delete(task),
    pending: () => [...waiting].sort(),
  };
}

/** Body and status of `GET /healthz/ready` (ztunnel.md §11.4). `silent`: threads that answer nothing, and so serve nothing. */
export function readinessAnswer(
  readiness: Readiness,
  silent: readonly string[] = [],
): { readonly status: 200 | 500 | 503; readonly body: string } {
  if (silent.length > 0)
    return { status: 503, body: `not ready, threads that do not answer: ${silent.join(', ')}\n` };
  const pending = readiness.pending();
  return pending.length === 0
    ? { status: 200, body: 'ready\n' }
    : { status: 500, body: `not ready, pending: ${pending.join(', ')}\n` };
}
