// Shell completions, made of the tree of commands. Words only: names of things in a cluster are not asked for.

import { MeshError } from '#base/errors.ts';
import type { CommandFacts } from './command-tree.ts';
import { didYouMean } from './suggest.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** What may follow a path of commands. */
interface Place {
  /** Without the program's own name: ``, `install`, `ztunnel-config log`. */
  readonly path: string;
  readonly commands: readonly CommandFacts[];
  readonly facts: CommandFacts;
}

export function completionScript(root: CommandFacts, shell: string): string {
  if (shell === 'bash') return bash(places(root, ''));
  if (shell === 'zsh') return zsh(places(root, ''));
  if (shell === 'fish') return fish(places(root, ''));
  throw new MeshError(
    'CONFIG_INVALID',
    `there is no completion for ${shell}${didYouMean(shell, SHELLS)} (there are: ${SHELLS.join(', ')})`,
  );
}

function places(facts: CommandFacts, path: string): Place[] {
  return [
    { path, commands: facts.commands, facts },
    ...facts.commands.flatMap((command) => places(command, `${path} ${command.name}`.trim())),
  ];
}

const optionsOf = ({ facts }: Place): string[] => [
  ...facts.options.flatMap(({ names }) => names).filter((name) => name.startsWith('--')),
  '--help',
];
const wordsOf = (place: Place): string[] => [...place.commands.map(({ name }) => name), ...optionsOf(place)];

/** A shell function that walks the words typed so far to the deepest command among them. */
const walk = (all: readonly Place[]): string =>
  all
    .filter(({ path }) => path !== '')
    .map(({ path }) => path.replaceAll(' ', '\\ '))
    .join('|');

function bash(all: readonly Place[]): string {
  const cases = all
    .map((place) => `    ${JSON.stringify(place.path)}) words=${JSON.stringify(wordsOf(place).join(' '))} ;;`)
    .join('\n');
  return `# bash completion of culvert:  source <(culvert completion bash)
_culvert() {
  local place= word next words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next="\${place:+$place }$word"
    case $next in
      ${walk(all)}) place=$next ;;
    esac
  done
  case $place in
${cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _culvert culvert
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function zsh(all: readonly Place[]): string {
  const cases = all
    .map((place) => {
      const described = [
        ...place.commands.map(({ name, description }) => `${name}:${description.replaceAll(':', '\\:')}`),
        ...place.facts.options
          .filter(({ names }) => names.some((name) => name.startsWith('--')))
          .map(({ names, description }) => `${names.at(-1)}:${description.replaceAll(':', '\\:')}`),
        '--help:display help for command',
      ];
      return `    ${JSON.stringify(place.path)}) choices=(${described.map(quoted).join(' ')}) ;;`;
    })
    .join('\n');
  return `#compdef culvert
# zsh completion of culvert:  source <(culvert completion zsh)
_culvert() {
  local place= word next
  local -a choices
  for word in "\${(@)words[2,CURRENT-1]}"; do
    next="\${place:+$place }$word"
    case $next in
      ${walk(all)}) place=$next ;;
    esac
  done
  case $place in
${cases}
  esac
  _describe culvert choices || _files
}
compdef _culvert culvert
`;
}

function fish(all: readonly Place[]): string {
  const lines = all.flatMap((place) => {
    const condition = quoted(`test (__culvert_place) = ${JSON.stringify(place.path)}`);
    return [
      ...place.commands.map(
        ({ name, description }) =>
          `complete -c culvert -n ${condition} -f -a ${name} -d ${quoted(description)}`,
      ),
      ...place.facts.options.map(({ names, description, takesValue }) => {
        const long = names.find((name) => name.startsWith('--'));
        const short = names.find((name) => /^-[^-]$/.test(name));
        return `complete -c culvert -n ${condition}${short === undefined ? '' : ` -s ${short.slice(1)}`}${
          long === undefined ? '' : ` -l ${long.slice(2)}`
        }${takesValue ? ' -r' : ''} -d ${quoted(description)}`;
      }),
    ];
  });
  const paths = all.filter(({ path }) => path !== '').map(({ path }) => JSON.stringify(path));
  return `# fish completion of culvert:  culvert completion fish | source
function __culvert_place
  set -l place ''
  for word in (commandline -opc)[2..]
    set -l next (string trim "$place $word")
    if contains -- $next ${paths.join(' ')}
      set place $next
    end
  end
  echo "$place"
end
${lines.join('\n')}
`;
}
