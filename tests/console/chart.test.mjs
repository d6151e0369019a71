import assert from "node:assert/strict";
import { test } from "node:test";

import { heights, summary } from "../../proxy/sidekey/console/static/chart.js";

test("the summary counts all points", () => {
  assert.equal(summary([{ requests: 1240, failed: 30 }, { requests: 1, failed: 1 }]), "1,241 requests, 31 failed");
  assert.equal(summary([{ requests: 1, failed: 0 }]), "1 request, 0 failed");
  assert.equal(summary([]), "No requests");
});

test("one failure among many requests stays visible, within its bar", () => {
  const [all, failed] = heights({ requests: 100_000, failed: 1 }, 100_000);
  assert.equal(all, 100);
  assert.ok(failed >= 2);
  const [one, alone] = heights({ requests: 1, failed: 1 }, 100_000);
  assert.ok(alone >= 2 && one === alone);
});

test("nothing is drawn where there were no requests", () => {
  assert.deepEqual(heights({ requests: 0, failed: 0 }, 0), [0, 0]);
});
