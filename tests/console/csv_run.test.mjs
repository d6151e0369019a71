import assert from "node:assert/strict";
import { test } from "node:test";

import { Run } from "../../proxy/sidekey/console/static/csv_run.js";

const done = (outcome, more = {}) => ({ send: { outcome, status: 200, host: "api.example.com", retry_after: null, ...more } });
const problem = (code, status, retryAfter = null) => ({ problem: { code, title: "The title", errors: [] }, status, retryAfter });

/** A run of `count` rows whose sends have these results, by row; a list has one result for each attempt. */
function running(count, outcomes, onSend = () => {}) {
  const sent = [];
  const waits = [];
  const items = Array.from({ length: count }, (_, index) => ({ row: index + 1, body: "{}" }));
  const send = async ({ row }, onFetch, isCancelled) => {
    sent.push(row);
    await onSend({ run, row, onFetch, isCancelled });
    const result = outcomes[row];
    return (Array.isArray(result) ? result.shift() : result) ?? done("accepted");
  };
  let now = 0;
  const wait = async (milliseconds) => {
    waits.push(milliseconds);
    now += milliseconds;
  };
  const run = new Run(items, new Map(), { send, wait, now: () => now, onChange: () => {}, perMinute: 60 });
  return { run, sent, waits };
}

const outcomes = (run) => [...run.results.values()].map((result) => result.outcome);

test("rows are sent in order, and a refused one does not stop the others", async () => {
  const { run, sent } = running(4, { 2: done("refused", { status: 422 }), 3: done("unknown") });
  await run.go();
  assert.equal(run.phase, "done");
  assert.deepEqual(sent, [1, 2, 3, 4]);
  assert.deepEqual(outcomes(run), ["accepted", "refused", "unknown", "accepted"]);
});

test("a run waits for a short limit with the same row, and stops at a long one", async () => {
  const { run, sent, waits } = running(3, { 2: [problem("send_limit", 429, 12), problem("too_many", 429, 1)], 3: problem("send_limit", 429, 7200) });
  await run.go();
  assert.deepEqual(sent, [1, 2, 2, 2, 3]);
  assert.equal(waits.length, 13);
  assert.equal(run.phase, "stopped");
  assert.equal(run.note, "your limit is reached for 2 hours.");
});

test("an upstream that asks to slow down delays the next row only", async () => {
  const { run, sent, waits } = running(2, { 1: done("refused", { status: 429, retry_after: 3 }), 2: done("accepted", { retry_after: 9 }) });
  await run.go();
  assert.deepEqual(sent, [1, 2]);
  assert.equal(waits.length, 3);
});

test("a refused credential, five failures or a revoked permission stop the run", async () => {
  for (const [result, rows, note] of [
    [done("refused", { status: 401 }), 1, /refused Sidekey's credential \(401\)/],
    [problem("forbidden", 403), 0, /no longer/],
    [done("unknown"), 5, /five rows/],
    [problem("invalid", 422), 5, /five rows/],
  ]) {
    const { run } = running(8, Object.fromEntries(Array.from({ length: 8 }, (_, index) => [index + 1, result])));
    await run.go();
    assert.equal(run.phase, "stopped");
    assert.match(run.note, note);
    assert.equal(run.results.size, rows);
  }
});

test("a lost row or an unavailable store pauses the run, which resumes with the same row", async () => {
  for (const result of [{ lost: true }, { unreachable: true }, problem("store_unavailable", 503), problem("stopping", 503)]) {
    const { run, sent } = running(3, { 2: [result] });
    await run.go();
    assert.equal(run.phase, "paused");
    await run.go();
    assert.deepEqual(sent, [1, 2, 2, 3]);
    assert.equal(run.phase, "done");
  }
});

test("stopping at a lost row reports it as unknown", async () => {
  const { run } = running(3, { 2: { lost: true } });
  await run.go();
  run.stop();
  assert.equal(run.phase, "stopped");
  assert.deepEqual(outcomes(run), ["accepted", "unknown"]);
});

test("pause and stop take effect after the current row", async () => {
  const pausing = running(3, {}, ({ run, row }) => row === 2 && run.phase === "running" && run.pause());
  await pausing.run.go();
  assert.equal(pausing.run.phase, "paused");
  await pausing.run.go();
  assert.deepEqual(pausing.sent, [1, 2, 3]);
  const stopping = running(3, { 2: { unreachable: true } }, ({ run, row, isCancelled }) => {
    if (row === 2) run.stop();
    assert.equal(isCancelled(), row === 2);
  });
  await stopping.run.go();
  assert.deepEqual(outcomes(stopping.run), ["accepted", "unknown"]);
  const last = running(1, {}, ({ run }) => run.pause());
  await last.run.go();
  assert.equal(last.run.phase, "done");
});
