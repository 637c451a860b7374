// CEL for the rules of custom resources. The evaluator is loaded when a definition with rules first needs it: most
// clusters never pay for it. A rule is compiled once; what it may cost is counted and bounded.

import { reasonOf } from '#base/errors.ts';
import { StatusError } from '../status.ts';
import { celFunctions } from './functions.ts';

type Cel = typeof import('@bufbuild/cel');
type Bindings = Record<string, unknown>;

/** A compiled expression. The answer is its value, or why it has none. */
export interface Program {
  readonly usesOldSelf: boolean;
  run(bindings: Bindings, budget: Budget): { readonly value: unknown } | { readonly error: string };
}

/** Steps that the rules of one object may take together: rounds of `all`, `exists`, `map` and the like. */
export class Budget {
  #left: number;
  constructor(steps: number) {
    this.#left = steps;
  }
  get exhausted(): boolean {
    return this.#left < 0;
  }
  take(steps: number): boolean {
    this.#left -= steps;
    return this.#left >= 0;
  }
}

interface Engine {
  readonly cel: Cel;
  readonly env: ReturnType<Cel['celEnv']>;
  /** Formats of strings that are values of their own in rules. */
  readonly formats: Readonly<Record<string, (bindings: Bindings) => unknown>>;
  /** Of the rule that runs now: nothing is awaited while one does. */
  budget: Budget;
}

const TICK = '@tick';
/** What one evaluation counts for, beside its rounds. */
const RULE_STEPS = 10;

let engine: Engine | undefined;
let loading: Promise<void> | undefined;

/** Must have resolved before rules are compiled or run. */
export function loadCel(): Promise<void> {
  loading ??= load();
  return loading;
}

async function load(): Promise<void> {
  const [cel, { strings }] = await Promise.all([import('@bufbuild/cel'), import('@bufbuild/cel/ext')]);
  const tick = cel.celFunc(TICK, [], cel.CelScalar.BOOL, () => engine!.budget.take(1));
  const env = cel.celEnv({ funcs: [...strings, ...celFunctions(cel), tick] });
  const conversion = (call: string): ((bindings: Bindings) => unknown) =>
    cel.plan(env, cel.parse(`${call}(text)`)) as (bindings: Bindings) => unknown;
  const formats = {
    'date-time': conversion('timestamp'),
    duration: conversion('duration'),
    byte: (bindings: Bindings): unknown => Buffer.from(String(bindings.text), 'base64'),
  };
  engine = { cel, env, formats, budget: new Budget(0) };
}

export const isCelLoaded = (): boolean => engine !== undefined;

function loaded(): Engine {
  if (engine === undefined)
    throw new StatusError(500, 'InternalError', 'the evaluator of validation rules is not loaded');
  return engine;
}

/** A string of a format as rules see it; as it is when the format is none of theirs, or not held to. */
export function formatted(format: string, text: string): unknown {
  const { cel, formats } = loaded();
  const convert = Object.hasOwn(formats, format) ? formats[format] : undefined;
  const value = convert?.({ text });
  return value === undefined || cel.isCelError(value) ? text : value;
}

/** The program, or why there is none: bad syntax, or a name this server's CEL does not have. */
export function compile(text: string, variables: readonly string[]): Program | { readonly error: string } {
  const held = loaded();
  const { cel, env } = held;
  try {
    const parsed = cel.parse(text);
    const walk = new Walk(variables, (name) => hasFunction(held, name));
    walk.expression(parsed.expr, []);
    if (walk.unknown !== undefined) return { error: `undeclared reference to '${walk.unknown}'` };
    const evaluate = cel.plan(env, parsed) as (bindings: Bindings) => unknown;
    return {
      usesOldSelf: walk.used.has('oldSelf'),
      run(bindings, budget) {
        held.budget = budget;
        budget.take(RULE_STEPS);
        try {
          const value = evaluate(bindings);
          return cel.isCelError(value) ? { error: value.message } : { value };
        } catch (error) {
          return { error: reasonOf(error) };
        }
      },
    };
  } catch (error) {
    return { error: reasonOf(error) };
  }
}

function hasFunction({ env }: Engine, name: string): boolean {
  return OPERATORS.has(name) || env.funcs.find(name) !== undefined;
}

/** Evaluated by the planner itself. */
const OPERATORS: ReadonlySet<string> = new Set([
  '_&&_',
  '_||_',
  '_?_:_',
  '_==_',
  '_!=_',
  '_[_]',
  '@not_strictly_false',
  TICK,
]);
/** Types and literals that stand as names. */
const GLOBALS: ReadonlySet<string> = new Set([
  'int',
  'uint',
  'double',
  'bool',
  'string',
  'bytes',
  'list',
  'map',
  'null_type',
  'type',
  'dyn',
]);

interface Node {
  [field: string]: unknown;
}

/** Goes over the syntax tree: which names it uses, and a counter into the condition of every loop. */
class Walk {
  readonly used = new Set<string>();
  unknown: string | undefined;
  readonly #variables: ReadonlySet<string>;
  readonly #isFunction: (name: string) => boolean;

  constructor(variables: readonly string[], isFunction: (name: string) => boolean) {
    this.#variables = new Set(variables);
    this.#isFunction = isFunction;
  }

  expression(node: unknown, scope: readonly string[]): void {
    const { case: kind, value } = ((node as Node | undefined)?.exprKind ?? {}) as {
      case?: string;
      value?: Node;
    };
    if (value === undefined) return;
    switch (kind) {
      case 'identExpr': {
        const name = String(value.name);
        if (this.#variables.has(name)) this.used.add(name);
        else if (!scope.includes(name) && !GLOBALS.has(name)) this.unknown ??= name;
        return;
      }
      case 'selectExpr':
        this.expression(value.operand, scope);
        return;
      case 'callExpr':
        if (!this.#isFunction(String(value.function))) this.unknown ??= String(value.function);
        this.expression(value.target, scope);
        for (const argument of value.args as unknown[]) this.expression(argument, scope);
        return;
      case 'listExpr':
        for (const element of value.elements as unknown[]) this.expression(element, scope);
        return;
      case 'structExpr':
        for (const entry of value.entries as Node[]) {
          const key = entry.keyKind as { case?: string; value?: unknown };
          if (key.case === 'mapKey') this.expression(key.value, scope);
          this.expression(entry.value, scope);
        }
        return;
      case 'comprehensionExpr': {
        const inner = [...scope, String(value.iterVar), String(value.iterVar2), String(value.accuVar)];
        this.expression(value.iterRange, scope);
        this.expression(value.accuInit, scope);
        for (const part of ['loopCondition', 'loopStep', 'result']) this.expression(value[part], inner);
        value.loopCondition = counted(value.loopCondition);
        return;
      }
    }
  }
}

/** `C` → `@tick() && C`: the loop ends when the budget does, and its result is then not believed. */
function counted(condition: unknown): Node {
  const call = (name: string, args: unknown[]): Node => ({
    $typeName: 'cel.expr.Expr',
    id: 0n,
    exprKind: { case: 'callExpr', value: { $typeName: 'cel.expr.Expr.Call', function: name, args } },
  });
  return call('_&&_', [call(TICK, []), condition]);
}
