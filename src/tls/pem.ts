// PEM text (RFC 7468): files of certificates hold several, often with comments between them.

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** The certificates in the text, in its order, as text; whether they can be read is not looked at. */
export const certificateBlocks = (text: string): string[] => text.match(CERTIFICATES) ?? [];
