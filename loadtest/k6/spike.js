// Spike: an ordinary rate, within seconds four times as much, and back. What is asked is that nobody gets an error
// and that it is over when it is over; some waiting at the height is expected. RATE is requests a second before it.
//   RATE=10 K6_NO_USAGE_REPORT=true go tool k6 run spike.js

import { oneRequest } from './requests.js';
import { summarise } from './report.js';

const rate = Number(__ENV.RATE || 10);

export const options = {
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max'],
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: rate,
      timeUnit: '1s',
      preAllocatedVUs: 100,
      maxVUs: 600,
      stages: [
        { target: rate, duration: __ENV.CALM || '10s' },
        { target: 4 * rate, duration: '3s' },
        { target: 4 * rate, duration: __ENV.DURATION || '15s' },
        { target: rate, duration: '3s' },
        { target: rate, duration: __ENV.CALM || '10s' },
      ],
    },
  },
  thresholds: {
    http_req_failed: ['rate<0.01'],
    http_req_duration: ['p(50)<1000', 'p(99)<10000'],
  },
};

export default oneRequest;
export const handleSummary = summarise;
