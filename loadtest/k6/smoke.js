// Smoke: a few requests a second for ten seconds. Does anything work at all? Exits 99 when a threshold is broken.
//   BASE_URL=http://127.0.0.1:8080 K6_NO_USAGE_REPORT=true go tool k6 run smoke.js

import { oneRequest } from './requests.js';
import { summarise } from './report.js';

export const options = {
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max'],
  scenarios: {
    smoke: {
      executor: 'constant-arrival-rate',
      rate: 5,
      timeUnit: '1s',
      duration: __ENV.DURATION || '10s',
      preAllocatedVUs: 10,
      maxVUs: 50,
    },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    http_req_duration: ['p(95)<2000'],
    dropped_iterations: ['count==0'],
  },
};

export default oneRequest;
export const handleSummary = summarise;
