// A further thread of ztunnel that fails when it is told to.

import './failing-thread.ts';

await import('../../../bin/ztunnel-worker.ts');
