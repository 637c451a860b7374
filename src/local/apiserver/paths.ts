// The URL paths of resources, taken apart.

/** `/api/v1/namespaces/shop/pods/web-1/log` and the like; names are percent-decoded. */
export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  readonly namespace: string | undefined;
  readonly plural: string;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** Undefined when the path does not address a resource (discovery and the like). */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const segments = decodeSegments(path);
  if (segments === undefined) return undefined;
  const core = segments[0] === 'api';
  if (!core && segments[0] !== 'apis') return undefined;
  const group = core ? '' : (segments[1] ?? '');
  const version = segments[core ? 1 : 2];
  const rest = segments.slice(core ? 2 : 3);
  if (version === undefined || rest.length === 0) return undefined;
  // `namespaces/NAME` is the object itself, and so are its own subresources.
  const inside =
    rest[0] === 'namespaces' && rest.length >= 3 && rest[2] !== 'status' && rest[2] !== 'finalize';
  const [plural, name, subresource, ...more] = inside ? rest.slice(2) : rest;
  if (plural === undefined || more.length > 0) return undefined;
  return { group, version, namespace: inside ? rest[1] : undefined, plural, name, subresource };
}

function decodeSegments(path: string): string[] | undefined {
  try {
    const segments = path.replace(/^\//, '').replace(/\/$/, '').split('/').map(decodeURIComponent);
    return segments.includes('') ? undefined : segments;
  } catch {
    return undefined;
  }
}
