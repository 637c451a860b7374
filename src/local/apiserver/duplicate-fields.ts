// Fields that a JSON text names twice. JSON.parse takes the last one and says nothing; strict clients want to hear of it.

/** As many as Kubernetes collects. */
const MAX_FOUND = 100;

interface Level {
  /** undefined in a list. */
  readonly names: Set<string> | undefined;
  /** Where this object or list stands. */
  readonly path: string;
  /** The field whose value comes next, or the position in the list. */
  at: string;
  index: number;
}

/** Paths as `spec.ports[0].port`. The text is known to be JSON. */
export function duplicateFields(text: string): string[] {
  const found = new Set<string>();
  const levels: Level[] = [];
  let expectsName = false;
  for (let at = 0; at < text.length && found.size < MAX_FOUND; at++) {
    const level = levels.at(-1);
    switch (text[at]) {
      case '{':
      case '[': {
        const isList = text[at] === '[';
        levels.push({ names: isList ? undefined : new Set(), path: here(level), at: '', index: 0 });
        expectsName = !isList;
        break;
      }
      case '}':
      case ']':
        levels.pop();
        expectsName = false;
        break;
      case ',':
        expectsName = level?.names !== undefined;
        if (level !== undefined && level.names === undefined) level.index++;
        break;
      case '"': {
        const end = endOfString(text, at);
        if (expectsName && level?.names !== undefined) {
          const name = JSON.parse(text.slice(at, end)) as string;
          level.at = name;
          if (level.names.has(name)) found.add(here(level));
          level.names.add(name);
          expectsName = false;
        }
        at = end - 1;
        break;
      }
    }
  }
  return [...found];
}

function here(level: Level | undefined): string {
  if (level === undefined) return '';
  if (level.names === undefined) return `${level.path}[${level.index}]`;
  return level.path === '' ? level.at : `${level.path}.${level.at}`;
}

/** Behind the closing quote. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}
