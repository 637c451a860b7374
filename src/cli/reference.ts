// docs/COMMANDS.md, made of the commands themselves (tools/command-reference.ts writes it, a test holds it equal).

import type { CommandFacts, OptionFacts } from './command-tree.ts';

const PREFACE = `# Commands

Made from the commands themselves by \`npm run generate:commands\`; edit them, not this page.

## Exit codes

| Code | Means |
|---|---|
| 0 | done; also the end by Ctrl-C of a command that runs until then |
| 1 | it failed, or was refused: one sentence on standard error says what and what to do ([ERRORS.md](ERRORS.md)); \`proxy-status\`: a proxy is not connected or rejected its configuration; \`ca\`, \`ca rehearse\`: connections fail or would |
| 2 | wrong usage: nothing was done |
| 130 | a second Ctrl-C, without waiting for the end |

\`culvert node exec\` ends with the code of the command it ran.

## Common to all

* Colour is for terminals only; a non-empty \`NO_COLOR\` and \`TERM=dumb\` switch it off.
* Commands that work on a cluster use the kubeconfig's current context: \`--kubeconfig\`, else the files of \`KUBECONFIG\` (merged as
  kubectl does), else \`~/.kube/config\`. Client certificates, tokens, token files and credential plugins are understood.
* The proxies' admin ports are reached through the API server by port-forward, as istioctl does: the user needs
  \`pods/portforward\` in istio-system.
* \`CULVERT_DEBUG=1\` adds stack traces.
`;

export function renderReference(root: CommandFacts): string {
  const sections = allCommands(root).map(section);
  const index = allCommands(root)
    .map(({ path, description }) => `* [\`${path}\`](#${anchor(path)}): ${description}`)
    .join('\n');
  return `${PREFACE}\n## All commands\n\n${index}\n\n${sections.join('\n')}`;
}

/** Depth first, without the root. */
function allCommands(root: CommandFacts): CommandFacts[] {
  return root.commands.flatMap((command) => [command, ...allCommands(command)]);
}

const anchor = (path: string): string => path.replace(/[^a-z0-9 -]/g, '').replaceAll(' ', '-');

function section({ path, usage, description, aliases, options, after }: CommandFacts): string {
  const parts = [`## ${path}`, '', `${sentence(description)}`, '', '```text', usage, '```', ''];
  if (aliases.length > 0) parts.push(`Also: ${aliases.map((alias) => `\`${alias}\``).join(', ')}.`, '');
  if (options.length > 0) parts.push('| Option | Meaning |', '|---|---|', ...options.map(row), '');
  if (after !== '') parts.push('```text', after, '```', '');
  return parts.join('\n');
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function row({ flags, description, defaultText }: OptionFacts): string {
  const extra =
    defaultText === undefined || description.includes('(default') ? '' : ` (default: ${defaultText})`;
  return `| \`${flags.replaceAll('|', '\\|')}\` | ${description.replaceAll('|', '\\|')}${extra} |`;
}
