// Every decoder that reads what others wrote.

import type { Target } from '../target.ts';
import { CERTIFICATE_TARGETS } from './certificates.ts';
import { DNS_TARGETS } from './dns.ts';
import { HTTP2_TARGETS } from './http2.ts';
import { MESSAGE_TARGETS } from './messages.ts';
import { STREAM_TARGETS } from './streams.ts';
import { TEXT_TARGETS } from './texts.ts';
import { XDS_CLIENT } from './xds-client.ts';

export const TARGETS: readonly Target[] = [
  ...HTTP2_TARGETS,
  ...MESSAGE_TARGETS,
  XDS_CLIENT,
  ...DNS_TARGETS,
  ...CERTIFICATE_TARGETS,
  ...STREAM_TARGETS,
  ...TEXT_TARGETS,
];
