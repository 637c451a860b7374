// Rules of the webhook configurations of admission. This server calls no webhooks. The kinds are served because control
// planes watch them; an object with webhooks is refused, for stored it would look as though something were checked.

import type { Strategy } from './kind.ts';
import { at } from './object.ts';
import { fieldForbidden } from './status.ts';

export const webhookConfigurationStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  validate: (object) => {
    const webhooks = at(object, 'webhooks');
    return Array.isArray(webhooks) && webhooks.length > 0
      ? [
          fieldForbidden(
            'webhooks',
            'this API server calls no admission webhooks; leave this object out, what it would check or change is not checked or changed here',
          ),
        ]
      : [];
  },
};
