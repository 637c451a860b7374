// Refusals as Kubernetes writes them: `kind: Status` with code, reason and details.

import { MeshError } from '#base/errors.ts';

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

export interface Status {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  /** `continue` where a list that was cut may go on. */
  readonly metadata: { readonly continue?: string };
  readonly status: 'Success' | 'Failure';
  readonly message?: string;
  readonly reason?: string;
  readonly details?: StatusDetails;
  readonly code?: number;
}

/** Thrown anywhere below the HTTP layer, which writes `body` with `body.code`. */
export class StatusError extends MeshError {
  readonly body: Status & { readonly code: number };

  constructor(
    code: number,
    reason: string,
    message: string,
    details?: StatusDetails,
    metadata: Status['metadata'] = {},
  ) {
    super('API_STATUS', message, { details: { status: code, reason } });
    this.body = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata,
      status: 'Failure',
      message,
      reason,
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

/** The resource a refusal is about: group and plural, with the kind where a sentence names it. */
export interface Subject {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

const grouped = (subject: Subject): string =>
  subject.group === '' ? subject.plural : `${subject.plural}.${subject.group}`;

const details = (subject: Subject, name: string): StatusDetails => ({
  ...(name === '' ? {} : { name }),
  ...(subject.group === '' ? {} : { group: subject.group }),
  kind: subject.plural,
});

export const badRequest = (message: string): StatusError => new StatusError(400, 'BadRequest', message);

export const notFound = (subject: Subject, name: string): StatusError =>
  new StatusError(
    404,
    'NotFound',
    `${grouped(subject)} ${JSON.stringify(name)} not found`,
    details(subject, name),
  );

export const pathNotFound = (): StatusError =>
  new StatusError(404, 'NotFound', 'the server could not find the requested resource', {});

export const alreadyExists = (subject: Subject, name: string): StatusError =>
  new StatusError(
    409,
    'AlreadyExists',
    `${grouped(subject)} ${JSON.stringify(name)} already exists`,
    details(subject, name),
  );

export const conflict = (subject: Subject, name: string, why: string): StatusError =>
  new StatusError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${grouped(subject)} ${JSON.stringify(name)}: ${why}`,
    details(subject, name),
  );

export const MODIFIED =
  'the object has been modified; please apply your changes to the latest version and try again';

export const forbidden = (
  subject: Subject,
  name: string,
  why: string,
  causes?: readonly StatusCause[],
): StatusError =>
  new StatusError(403, 'Forbidden', `${grouped(subject)} ${JSON.stringify(name)} is forbidden: ${why}`, {
    ...details(subject, name),
    ...(causes === undefined ? {} : { causes }),
  });

export const methodNotAllowed = (): StatusError =>
  new StatusError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );

export const tooManyRequests = (message: string, details: StatusDetails): StatusError =>
  new StatusError(429, 'TooManyRequests', message, details);

export const unsupportedMediaType = (message: string): StatusError =>
  new StatusError(415, 'UnsupportedMediaType', message);

export const expired = (message: string): StatusError => new StatusError(410, 'Expired', message);

export const notServed = (message: string): StatusError => new StatusError(501, 'NotImplemented', message);

/** One finding of validation, in the words of Kubernetes' field errors. */
export interface FieldError {
  readonly path: string;
  readonly type:
    | 'Required'
    | 'Invalid'
    | 'NotSupported'
    | 'Forbidden'
    | 'Duplicate'
    | 'TypeInvalid'
    | 'TooLong'
    | 'TooMany';
  readonly message: string;
}

const TYPE_TEXT: Readonly<Record<FieldError['type'], string>> = {
  Required: 'Required value',
  Invalid: 'Invalid value',
  NotSupported: 'Unsupported value',
  Forbidden: 'Forbidden',
  Duplicate: 'Duplicate value',
  TypeInvalid: 'Invalid value',
  TooLong: 'Too long',
  TooMany: 'Too many',
};

const show = (value: unknown): string => {
  const text = value === undefined ? 'null' : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
};

export const required = (path: string, text = ''): FieldError => ({ path, type: 'Required', message: text });
export const invalid = (path: string, value: unknown, text: string): FieldError => ({
  path,
  type: 'Invalid',
  message: `${show(value)}${text === '' ? '' : `: ${text}`}`,
});
export const typeInvalid = (path: string, value: unknown, text: string): FieldError => ({
  path,
  type: 'TypeInvalid',
  message: `${show(value)}: ${text}`,
});
export const duplicate = (path: string, value: unknown): FieldError => ({
  path,
  type: 'Duplicate',
  message: show(value),
});
export const fieldForbidden = (path: string, text: string): FieldError => ({
  path,
  type: 'Forbidden',
  message: text,
});
export const notSupported = (path: string, value: unknown, allowed: readonly unknown[]): FieldError => ({
  path,
  type: 'NotSupported',
  message: `${show(value)}: supported values: ${allowed.map(show).join(', ')}`,
});

const body = (error: FieldError): string =>
  error.message === '' ? TYPE_TEXT[error.type] : `${TYPE_TEXT[error.type]}: ${error.message}`;

/** 422 with one cause per finding. */
export function invalidObject(subject: Subject, name: string, errors: readonly FieldError[]): StatusError {
  const texts = errors.map((error) => `${error.path}: ${body(error)}`);
  const list = texts.length === 1 ? texts[0]! : `[${texts.join(', ')}]`;
  return new StatusError(
    422,
    'Invalid',
    `${subject.kind}${subject.group === '' ? '' : `.${subject.group}`} ${JSON.stringify(name)} is invalid: ${list}`,
    {
      ...details({ ...subject, plural: subject.kind }, name),
      causes: errors.map((error) => ({
        reason: `FieldValue${error.type}`,
        message: body(error),
        field: error.path,
      })),
    },
  );
}
