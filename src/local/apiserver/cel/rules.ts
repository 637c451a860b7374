// `x-kubernetes-validations` of custom resources: which rules hold at which value, transition rules with the value before,
// messages, reasons and paths of what they refuse; and whether a definition's rules can be run at all.

import { at, equal, isObject, type JsonObject } from '../object.ts';
import type { StructuralSchema } from '../schema.ts';
import { type FieldError, fieldForbidden, invalid } from '../status.ts';
import { Budget, compile, type Program } from './engine.ts';
import { celValue, rootValue } from './values.ts';

export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly reason?: string;
  readonly fieldPath?: string;
  readonly optionalOldSelf?: boolean;
}

/** Generous for any real object, and a fraction of a second. */
const STEPS_PER_OBJECT = 500_000;
const VARIABLES = ['self', 'oldSelf'];

const rulesOf = (schema: StructuralSchema): readonly ValidationRule[] => {
  const rules = schema['x-kubernetes-validations'];
  return Array.isArray(rules) ? rules.filter(isObject).map((rule) => rule as unknown as ValidationRule) : [];
};

function childrenOf(schema: StructuralSchema): [path: string, child: StructuralSchema][] {
  return [
    ...Object.entries(schema.properties ?? {}).map(([name, child]): [string, StructuralSchema] => [
      `properties[${name}]`,
      child,
    ]),
    ...(isObject(schema.additionalProperties)
      ? [
          ['additionalProperties', schema.additionalProperties as StructuralSchema] as [
            string,
            StructuralSchema,
          ],
        ]
      : []),
    ...(schema.items === undefined ? [] : [['items', schema.items] as [string, StructuralSchema]]),
  ];
}

export const hasRules = (schema: StructuralSchema): boolean =>
  rulesOf(schema).length > 0 || childrenOf(schema).some(([, child]) => hasRules(child));

interface Compiled {
  readonly program: Program | { readonly error: string };
  readonly message: Program | { readonly error: string } | undefined;
}

/** Stored schemas do not change: a rule is compiled when it is first met. */
const compiled = new WeakMap<ValidationRule, Compiled>();

function compiledRule(rule: ValidationRule): Compiled {
  let found = compiled.get(rule);
  if (found === undefined) {
    const { messageExpression = '' } = rule;
    found = {
      program: compile(rule.rule, VARIABLES),
      message: messageExpression === '' ? undefined : compile(messageExpression, VARIABLES),
    };
    compiled.set(rule, found);
  }
  return found;
}

/** The rules of a definition that cannot be run. They are refused when it is written, not when objects come. */
export function checkRules(schema: StructuralSchema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  rulesOf(schema).forEach((rule, index) => {
    const at_ = `${path}.x-kubernetes-validations[${index}]`;
    const { program, message } = compiledRule(rule);
    if ('error' in program)
      errors.push(invalid(`${at_}.rule`, rule.rule, `compilation failed: ${program.error}`));
    if (message !== undefined && 'error' in message)
      errors.push(
        invalid(`${at_}.messageExpression`, rule.messageExpression, `compilation failed: ${message.error}`),
      );
    if (rule.optionalOldSelf === true)
      errors.push(fieldForbidden(`${at_}.optionalOldSelf`, 'this server has no optional values in rules'));
  });
  for (const [name, child] of childrenOf(schema)) errors.push(...checkRules(child, `${path}.${name}`));
  return errors;
}

/** Every rule that the object breaks. `old` is the object before an update. */
export function evaluateRules(
  schema: StructuralSchema,
  object: JsonObject,
  old: JsonObject | undefined,
): FieldError[] {
  const budget = new Budget(STEPS_PER_OBJECT);
  const errors: FieldError[] = [];
  new Evaluation(budget, errors).visit(schema, object, old, '', true);
  if (budget.exhausted)
    return [
      fieldForbidden(
        'x-kubernetes-validations',
        'the validation rules cost too much on this object and were given up; make its lists shorter',
      ),
    ];
  return errors;
}

interface Seen {
  readonly self: unknown;
  readonly oldSelf: unknown;
  readonly unchanged: boolean;
}

/** An object's metadata changes with every write. */
function contentOf(value: unknown, root: boolean): unknown {
  if (!root || !isObject(value)) return value;
  const { metadata: _, ...content } = value;
  return content;
}

class Evaluation {
  readonly #budget: Budget;
  readonly #errors: FieldError[];

  constructor(budget: Budget, errors: FieldError[]) {
    this.#budget = budget;
    this.#errors = errors;
  }

  visit(schema: StructuralSchema, value: unknown, old: unknown, path: string, root = false): void {
    if (this.#budget.exhausted || value === undefined || value === null) return;
    const rules = rulesOf(schema);
    if (rules.length > 0) {
      const shape = (each: unknown): unknown =>
        root ? rootValue(schema, each as JsonObject) : celValue(schema, each);
      const self = shape(value);
      const oldSelf = old === undefined || old === null ? undefined : shape(old);
      const unchanged = oldSelf !== undefined && equal(contentOf(value, root), contentOf(old, root));
      for (const rule of rules) this.#judge(rule, schema, { self, oldSelf, unchanged }, path);
    }
    if (Array.isArray(value)) {
      const { items } = schema;
      if (items !== undefined && hasRulesCached(items))
        value.forEach((item: unknown, index) => {
          this.visit(items, item, partnerOf(schema, item, old), `${path}[${index}]`);
        });
    } else if (isObject(value))
      for (const [name, each] of Object.entries(value)) {
        const child = childSchema(schema, name);
        if (child !== undefined && hasRulesCached(child.schema))
          this.visit(child.schema, each, at(old, name), child.path(path));
      }
  }

  #judge(
    rule: ValidationRule,
    schema: StructuralSchema,
    { self, oldSelf, unchanged }: Seen,
    path: string,
  ): void {
    const { program, message } = compiledRule(rule);
    const refuse = (text: string): void => {
      this.#errors.push(errorOf(rule, schema, path, text));
    };
    if ('error' in program) {
      refuse(`the rule cannot be compiled: ${program.error}`);
      return;
    }
    // Transition rules speak of changes only.
    if (program.usesOldSelf && oldSelf === undefined) return;
    // What an update leaves as it was is not held against it: a definition may have become stricter since.
    if (unchanged && !program.usesOldSelf) return;
    const bindings = { self, ...(oldSelf === undefined ? {} : { oldSelf }) };
    const outcome = program.run(bindings, this.#budget);
    if ('error' in outcome) {
      refuse(`rule evaluation failed: ${outcome.error}: ${rule.rule}`);
      return;
    }
    if (outcome.value === true) return;
    const told = message !== undefined && 'run' in message ? message.run(bindings, this.#budget) : undefined;
    const text =
      told !== undefined && 'value' in told && typeof told.value === 'string' ? told.value.trim() : '';
    refuse(text || rule.message?.trim() || `failed rule: ${rule.rule.trim()}`);
  }
}

function childSchema(
  schema: StructuralSchema,
  name: string,
): { readonly schema: StructuralSchema; readonly path: (path: string) => string } | undefined {
  const { properties, additionalProperties } = schema;
  if (properties !== undefined && Object.hasOwn(properties, name))
    return { schema: properties[name]!, path: (path) => (path === '' ? name : `${path}.${name}`) };
  return isObject(additionalProperties)
    ? { schema: additionalProperties as StructuralSchema, path: (path) => `${path}[${name}]` }
    : undefined;
}

const withRules = new WeakMap<StructuralSchema, boolean>();

function hasRulesCached(schema: StructuralSchema): boolean {
  let known = withRules.get(schema);
  if (known === undefined) {
    known = hasRules(schema);
    withRules.set(schema, known);
  }
  return known;
}

/** The same item before the update: only lists with keys say which that is. */
function partnerOf(schema: StructuralSchema, item: unknown, old: unknown): unknown {
  const keys = schema['x-kubernetes-list-map-keys'];
  if (schema['x-kubernetes-list-type'] !== 'map' || keys === undefined || !Array.isArray(old))
    return undefined;
  return old.find((each: unknown) => keys.every((key) => equal(at(each, key), at(item, key))));
}

const REASONS: Readonly<Record<string, FieldError['type']>> = {
  FieldValueInvalid: 'Invalid',
  FieldValueForbidden: 'Forbidden',
  FieldValueRequired: 'Required',
  FieldValueDuplicate: 'Duplicate',
};

function errorOf(rule: ValidationRule, schema: StructuralSchema, path: string, text: string): FieldError {
  const at_ = `${path}${rule.fieldPath ?? ''}`.replace(/^\./, '') || '<root>';
  const type = REASONS[rule.reason ?? ''] ?? 'Invalid';
  if (type === 'Invalid') return invalid(at_, schema.type ?? 'object', text);
  return { path: at_, type, message: text };
}
