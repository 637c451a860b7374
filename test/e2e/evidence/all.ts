// Every feature script, in the order of docs/FEATURES.md.

import type { Evidence } from './evidence.ts';
import { evidence as m1 } from './m1-one-proxy-per-node.ts';
import { evidence as m2 } from './m2-only-tls-on-the-wire.ts';
import { evidence as m4 } from './m4-identity-per-workload.ts';
import { evidence as m5 } from './m5-only-its-own-node.ts';
import { evidence as m7 } from './m7-policy.ts';
import { evidence as m8 } from './m8-services.ts';
import { evidence as m9 } from './m9-dns-proxy.ts';
import { evidence as m10 } from './m10-telemetry.ts';
import { evidence as m11 } from './m11-upgrade.ts';
import { evidence as r1 } from './r1-enrol-by-label.ts';
import { evidence as r2 } from './r2-in-pod-redirection.ts';
import { evidence as r3 } from './r3-captured-before-the-first-packet.ts';
import { evidence as r6 } from './r6-probes-under-strict.ts';
import { evidence as r7 } from './r7-source-address.ts';
import { evidence as x1 } from './x1-one-command.ts';
import { evidence as x10 } from './x10-rehearsed-rotation.ts';

export const ALL_EVIDENCE: readonly Evidence[] = [
  m1,
  m2,
  m4,
  m5,
  m7,
  m8,
  m9,
  m10,
  m11,
  r1,
  r2,
  r3,
  r6,
  r7,
  x1,
  x10,
];
