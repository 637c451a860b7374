// The catalog: what the shop sells.

import { serve } from './lib/service.ts';

const ITEMS = [
  { id: 'pipe', name: 'Concrete pipe, 600 mm', cents: 8900 },
  { id: 'grate', name: 'Cast-iron grate', cents: 4200 },
  { id: 'gauge', name: 'Water gauge', cents: 1950 },
];

serve('catalog', 8080, () => ITEMS);
