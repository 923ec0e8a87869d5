// The requests that all scripts send: the sample producer's endpoints, many light and few heavy ones.

import http from 'k6/http';
import { check } from 'k6';

export const BASE_URL = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/$/, '');

// Log-normal around a median, its normal by Box and Muller (1958).
function size(median, sigma, most) {
  const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Math.max(1, Math.min(most, Math.round(median * Math.exp(sigma * normal))));
}

// Weight, name, path.
const MIX = [
  [0.45, 'search', () => `/search?rows=${size(1500, 1.1, 40000)}&q=tide`],
  [0.25, 'hash', () => `/hash?n=${size(6000, 1.0, 300000)}`],
  [0.14, 'report', () => `/report?rows=${size(5000, 0.9, 40000)}`],
  [0.1, 'thumbnail', () => `/thumbnail?size=${size(120, 0.6, 640)}`],
  [0.06, 'export', () => `/export?kb=${size(150, 0.9, 2000)}`],
];

function pick() {
  let left = Math.random();
  return MIX.find(([weight]) => (left -= weight) < 0) || MIX[0];
}

export function oneRequest() {
  const [, name, path] = pick();
  const tenant = `tenant-${1 + Math.floor(20 * Math.random() ** 2)}`;
  // Under one name per endpoint: a series of metrics for each different size would never end.
  const answer = http.get(BASE_URL + path(), { headers: { 'x-tenant': tenant }, tags: { name } });
  check(answer, {
    'answered 200': (a) => a.status === 200,
    'said by an instance': (a) => Boolean(a.headers['X-Instance']),
  });
}
