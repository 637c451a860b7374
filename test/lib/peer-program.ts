// The field's ztunnel, where PEER_ZTUNNEL names the command of one; it is no part of this repository.

export const PEER_ZTUNNEL = process.env.PEER_ZTUNNEL || undefined;

/** For tests that need it: why they do not run, or that they do. */
export const WITHOUT_PEER = PEER_ZTUNNEL === undefined && 'not run: PEER_ZTUNNEL names no ztunnel';
