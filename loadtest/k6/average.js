// Average load: up to an ordinary day's rate, held, and down again. RATE is requests a second.
//   RATE=30 K6_NO_USAGE_REPORT=true go tool k6 run average.js

import { oneRequest } from './requests.js';
import { summarise } from './report.js';

const rate = Number(__ENV.RATE || 20);

export const options = {
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max'],
  scenarios: {
    average: {
      executor: 'ramping-arrival-rate',
      startRate: 1,
      timeUnit: '1s',
      preAllocatedVUs: 50,
      maxVUs: 300,
      stages: [
        { target: rate, duration: __ENV.RAMP || '10s' },
        { target: rate, duration: __ENV.DURATION || '40s' },
        { target: 1, duration: __ENV.RAMP || '10s' },
      ],
    },
  },
  thresholds: {
    http_req_failed: ['rate<0.001'],
    http_req_duration: ['p(50)<250', 'p(99)<3000'],
    dropped_iterations: ['count<5'],
  },
};

export default oneRequest;
export const handleSummary = summarise;
