// The certificate authority's service for those who serve it; who calls it and what it answers is theirs to decide.

import * as wire from './gen/citadel_pb.js';

export const certificateService = wire.IstioCertificateService;
