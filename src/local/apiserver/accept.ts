// Which form of answer a client asks for. JSON is always possible, so nothing is refused for its Accept header.

export type AnswerForm = 'object' | 'table' | 'metadata';

export interface Accepted {
  readonly form: AnswerForm;
  readonly yaml: boolean;
}

interface Clause {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

function clausesOf(header: string | undefined): Clause[] {
  return (header ?? '').split(',').map((clause) => {
    const [type = '', ...parameters] = clause.split(';').map((part) => part.trim());
    return {
      type: type.toLowerCase(),
      parameters: new Map(
        parameters.map((parameter) => {
          const equals = parameter.indexOf('=');
          return [parameter.slice(0, equals), parameter.slice(equals + 1)] as const;
        }),
      ),
    };
  });
}

const FORMS: Readonly<Record<string, AnswerForm>> = {
  Table: 'table',
  PartialObjectMetadata: 'metadata',
  PartialObjectMetadataList: 'metadata',
};

/** The first clause that can be served; protobuf and unknown ones are passed over. */
export function acceptedForm(header: string | undefined): Accepted {
  for (const { type, parameters } of clausesOf(header)) {
    const yaml = type === 'application/yaml';
    if (!yaml && type !== 'application/json') continue;
    const as = parameters.get('as');
    if (as === undefined) return { form: 'object', yaml };
    const form = Object.hasOwn(FORMS, as) ? FORMS[as] : undefined;
    if (form !== undefined && parameters.get('g') === 'meta.k8s.io' && parameters.get('v') === 'v1')
      return { form, yaml };
  }
  return { form: 'object', yaml: false };
}

/** Whether the aggregated discovery document (v2) is acceptable. */
export function acceptsAggregatedDiscovery(header: string | undefined): boolean {
  return clausesOf(header).some(
    ({ type, parameters }) =>
      type === 'application/json' &&
      parameters.get('g') === 'apidiscovery.k8s.io' &&
      parameters.get('v') === 'v2' &&
      parameters.get('as') === 'APIGroupDiscoveryList',
  );
}
