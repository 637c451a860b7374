// `npm run see -- M4 R1`: starts the mesh, shows the evidence of the named features, ends the mesh.

import { ALL_EVIDENCE } from './evidence/all.ts';
import { startMesh } from './harness.ts';

const wanted = process.argv.slice(2).map((id) => id.toUpperCase());
const unknown = wanted.filter((id) => !ALL_EVIDENCE.some((evidence) => evidence.id === id));
if (wanted.length === 0 || unknown.length > 0) {
  if (unknown.length > 0)
    console.error(
      `see: no script for ${unknown.join(', ')}; docs/FEATURES.md says how each feature stands\n`,
    );
  console.error('Usage: npm run see -- ID…   with ID one of');
  for (const { id, title } of ALL_EVIDENCE) console.error(`  ${id.padEnd(4)} ${title}`);
  process.exit(wanted.length === 0 ? 0 : 2);
}

console.error('see: starting the mesh with its sample …');
const mesh = await startMesh();
try {
  for (const { id, title, show } of ALL_EVIDENCE.filter((evidence) => wanted.includes(evidence.id))) {
    console.log(`${id}  ${title}`);
    await show(mesh, (text) => console.log(`    ${text}`));
  }
} finally {
  await mesh.stop();
}
