// The tree of commands as data: what the reference page and the shell completions are made of.

import type { EventEmitter } from 'node:events';
import type { Command } from 'commander';

export interface OptionFacts {
  /** As shown: `-o, --output <form>`. */
  readonly flags: string;
  /** `-o`, `--output`. */
  readonly names: readonly string[];
  readonly description: string;
  /** Undefined when there is none worth saying. */
  readonly defaultText: string | undefined;
  readonly takesValue: boolean;
}

export interface CommandFacts {
  /** `culvert ztunnel-config log`. */
  readonly path: string;
  readonly name: string;
  readonly aliases: readonly string[];
  readonly usage: string;
  readonly description: string;
  readonly options: readonly OptionFacts[];
  /** Text after the help: settings and examples. */
  readonly after: string;
  readonly commands: readonly CommandFacts[];
}

export function describeCommand(command: Command, parentPath = ''): CommandFacts {
  const path = `${parentPath} ${command.name()}`.trim();
  return {
    path,
    name: command.name(),
    aliases: command.aliases(),
    usage: `${path} ${command.usage()}`,
    description: command.description(),
    options: command.options
      .filter(({ hidden }) => !hidden)
      .map((option) => ({
        flags: option.flags,
        names: [option.short, option.long].filter((name) => name !== undefined),
        description: option.description,
        defaultText: defaultText(option),
        takesValue: option.required || option.optional,
      })),
    after: afterText(command),
    commands: command.commands
      .filter((sub) => sub.name() !== 'help')
      .map((sub) => describeCommand(sub, path)),
  };
}

function defaultText(option: Command['options'][number]): string | undefined {
  if (option.defaultValueDescription !== undefined) return option.defaultValueDescription;
  const { defaultValue } = option as { readonly defaultValue: unknown };
  return typeof defaultValue === 'string' || typeof defaultValue === 'number'
    ? String(defaultValue)
    : undefined;
}

/** What `addHelpText('after', …)` added: commander keeps it as listeners of its help event. */
function afterText(command: Command): string {
  let text = '';
  const context = {
    error: false,
    command,
    write: (piece: string) => {
      text += piece;
    },
  };
  // Every Command is an emitter; its types keep quiet about it.
  (command as unknown as EventEmitter).emit('afterHelp', context);
  return text.trim();
}
