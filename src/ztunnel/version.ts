// What this build calls itself, in the shapes the field's tools read (ztunnel.md §11.3, §11.5).

import { VERSION } from '#base/version.ts';

/** The `version` object of the config dump. */
export function versionInfo(istioVersion: string): Readonly<Record<string, string>> {
  return {
    version: VERSION,
    gitRevision: 'unknown',
    rustVersion: `node ${process.versions.node}`,
    buildProfile: 'release',
    buildStatus: 'unknown',
    istioVersion,
    cryptoProvider: `openssl ${process.versions.openssl}`,
  };
}

export function buildInfo(istioVersion: string): string {
  const fields = Object.entries(versionInfo(istioVersion)).map(
    ([key, value]) => `${key[0]?.toUpperCase()}${key.slice(1)}:${JSON.stringify(value)}`,
  );
  return `version.BuildInfo{${fields.join(', ')}}`;
}
