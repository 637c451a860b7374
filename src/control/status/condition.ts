// Conditions in the status of objects (control-plane.md §3.6): what one writer wants to be said, compared with what
// stands there. Pure.
//
// Each writer is a field manager of server-side apply. It applies all that it says of an object at once; what it leaves
// out and had said before, the API server takes away. Conditions of others are never touched.

export interface Statement {
  readonly type: string;
  readonly status: boolean;
  readonly reason: string;
  readonly message: string;
  /** The generation of the object that this is about; left out where it depends on more than the object. */
  readonly generation?: number | undefined;
}

/** All that one field manager says of one object. */
export interface Report {
  readonly manager: string;
  /** What it may say: of these, what is not stated is taken away. */
  readonly types: readonly string[];
  readonly statements: readonly Statement[];
}

/** As it stands in an object. Istio's kinds hold generations as text: 64-bit numbers of protobuf in JSON. */
export interface HeldCondition {
  readonly type: string;
  readonly status?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
  readonly observedGeneration?: number | string;
}

/** What has to be applied; undefined when the object says it already: every write would wake every watcher. */
export function conditionsToApply(
  report: Report,
  held: readonly HeldCondition[],
  now: string,
): readonly HeldCondition[] | undefined {
  const before = new Map(held.map((condition) => [condition.type, condition]));
  const stated = new Map(report.statements.map((statement) => [statement.type, statement]));
  const isSaid = report.types.every((type) => {
    const wanted = stated.get(type);
    const found = before.get(type);
    return wanted === undefined || found === undefined ? wanted === found : says(found, wanted);
  });
  if (isSaid) return undefined;
  return report.statements.map((statement) => {
    const found = before.get(statement.type);
    const status = statement.status ? 'True' : 'False';
    return {
      type: statement.type,
      status,
      reason: statement.reason,
      message: statement.message,
      // The transition is that of the status: another reason for the same is none.
      lastTransitionTime:
        found?.status === status && found.lastTransitionTime !== undefined ? found.lastTransitionTime : now,
      ...(statement.generation === undefined ? {} : { observedGeneration: String(statement.generation) }),
    };
  });
}

function says(found: HeldCondition, { status, reason, message, generation = 0 }: Statement): boolean {
  return (
    found.status === (status ? 'True' : 'False') &&
    found.reason === reason &&
    (found.message ?? '') === message &&
    Number(found.observedGeneration ?? 0) === generation
  );
}
