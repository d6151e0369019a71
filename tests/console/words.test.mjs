import assert from "node:assert/strict";
import test from "node:test";
import { ago, clock, duration, utc } from "../../proxy/sidekey/console/static/time.js";
import { adviceFor, failureText, idOf, latencyText, logInProblem, outcomeWords, personName, sendProblem, statusReason, testWords, usageNote } from "../../proxy/sidekey/console/static/words.js";

const send = { outcome: "accepted", status: 200, code: "", host: "api.example.com", milliseconds: 412 };
const problem = (code, errors = []) => ({ code, title: "Title", detail: "Detail.", errors });

test("every outcome says what happened, and what to do", () => {
  const rows = [
    [{}, "Accepted by api.example.com (200) in 0.4 s.", ""],
    [{ outcome: "refused", status: 401 }, "api.example.com refused Sidekey's credential (401).", "Tell a developer: the integration's password may have changed."],
    [{ outcome: "refused", status: 422 }, "api.example.com did not accept the content (422).", "Compare each field with its help and example. If all are right, tell a developer, with the request ID."],
    [{ outcome: "refused", status: 429, retry_after: 14 }, "api.example.com asks you to slow down (429).", "Try again in 14 s."],
    [{ outcome: "refused", status: 302 }, "api.example.com did not accept it (302).", "Tell a developer, with the request ID."],
    [{ outcome: "failed", status: 500 }, "api.example.com reported an error (500). It may have acted on it.", "Check there before you send it again."],
    [{ outcome: "not_sent", code: "upstream_unreachable" }, "Not sent: api.example.com could not be reached.", "Nothing has reached api.example.com. Try again, or tell a developer."],
    [{ outcome: "not_sent", code: "credential_unavailable" }, "Not sent: the credential is not usable now.", "Nothing has left Sidekey. Tell a developer."],
    [{ outcome: "not_sent", code: "store_unavailable" }, "Not sent: Sidekey could not write it down first.", "Your text is still here. Send it again."],
    [{ outcome: "not_sent", code: "target_denied", host: "" }, "Not sent: Sidekey refused it (target_denied).", "Tell a developer, with the request ID."],
    [{ outcome: "unknown" }, "Unknown: it may have been sent.", "Check at api.example.com before you send it again."],
    [{ outcome: "of a later version" }, "Unknown: it may have been sent.", "Check at api.example.com before you send it again."],
  ];
  for (const [changes, text, advice] of rows) {
    const words = outcomeWords({ ...send, ...changes });
    assert.deepEqual([words.text, words.advice], [text, advice]);
  }
});

test("a limit names its number and when the person can go on", () => {
  const limits = { per_minute: 60, per_day: 1000 };
  const text = (pointer, given) => sendProblem(problem("send_limit", [{ pointer, detail: "" }]), 14, given).text;
  assert.equal(text("/per_minute", limits), "You have sent 60 in a minute, which is your limit.");
  assert.equal(text("/per_day", limits), "You have sent 1,000 in 24 hours, which is your limit.");
  assert.equal(text("/per_day"), "Your limit in 24 hours is reached.");
  assert.equal(sendProblem(problem("send_limit"), 14, limits).advice, "You can go on in 14 s.");
  assert.equal(sendProblem(problem("of a later version"), null).text, "Not sent: Title.");
});

test("people of the company log-in show the end of their subject", () => {
  const identity = "oidc:https://idp.example.com#a91b8f1c";
  assert.equal(personName({ name: "admin", label: "ann", identity }), "ann (company account, …8f1c)");
  assert.equal(personName({ name: "ann", identity: "token:1" }), "ann");
});

test("advice and log-in problems", () => {
  assert.match(adviceFor({ status: 401, code: "" }), /^The provider refused this credential/);
  assert.match(adviceFor({ status: 401, code: "" }, true), /secret was changed/);
  assert.match(adviceFor({ status: 502, code: "upstream_unreachable" }), /host name/);
  const refused = { status: 502, code: "credential_unavailable", reason: "token endpoint returned 401 invalid_client" };
  assert.match(adviceFor(refused), /secret is refused/);
  assert.equal(failureText(refused), "Sidekey could not get the credential: token endpoint returned 401 invalid_client");
  assert.equal(adviceFor({ status: 404, code: "" }), "");
  assert.match(adviceFor({ status: 415, code: "body_unsupported" }), /Send a body/);
  assert.equal(logInProblem(problem("store_denied")), "This Sidekey only serves. Log in at the Sidekey that edits.");
});

test("an integration without a problem says whether its requests succeed", () => {
  const used = (...points) => ({ points, last_used_at: "2026-11-30T12:00:00Z" });
  const usages = [{ points: [[0, 0]], last_used_at: null }, used([2, 0], [2, 2], [0, 0]), used([2, 2], [3, 2]), used([0, 0]), null];
  assert.deepEqual(usages.map((usage) => usageNote("ok", usage)), ["Not used yet", "No request succeeded lately", "", "", ""]);
  assert.equal(usageNote("unusable", usages[0]), "");
});

test("a failure before the last change asks for a test", () => {
  const item = { status: "ok", expires_at: null, problem: null, updated_at: "2026-11-30T12:00:00Z" };
  const failure = { at: "2026-11-30T11:00:00Z", status: 502, code: "credential_unavailable" };
  assert.match(statusReason(item, failure), /after its last failure. Test it/);
  assert.match(statusReason({ ...item, updated_at: "2026-11-30T10:00:00Z" }, failure), /^Last failure/);
  assert.match(statusReason(item, failure, "2026-11-30T12:00:00Z"), /^Tested /);
  assert.match(statusReason(item, { ...failure, at: "2026-11-30T13:00:00Z" }, "2026-11-30T12:00:00Z"), /^Last failure/);
});

test("a test says why there is no credential, and what to do", () => {
  const result = { ok: false, status: 502, code: "credential_unavailable", note: null, milliseconds: 5 };
  const advice = (reason) => testWords({ ...result, reason }).advice;
  assert.match(advice("token endpoint returned 401 invalid_client"), /secret is refused/);
  assert.match(advice("token endpoint: its host name has no address in DNS"), /^Check its URL/);
  assert.equal(advice("a secret cannot be read"), "");
  const both = "auth.certificate: the server: its host name has no address in DNS; auth.private_key: the server: it does not speak TLS";
  const words = "certificate: the server's host name has no address in DNS; private key: the server does not speak TLS.";
  assert.equal(testWords({ ...result, reason: both }).text, `It does not work: ${words}`);
  assert.equal(statusReason({ status: "unusable", problem: both }), `C${words.slice(1)}`);
  const file = (place) => statusReason({ status: "unusable", problem: `${place}: the file key does not exist` });
  assert.equal(file("auth.headers.X-Key.secret"), "X-Key: the file key does not exist.");
  assert.equal(file("auth.secret"), "Secret: the file key does not exist.");
});

test("durations are given by known buckets", () => {
  const counts = [40, 30, 20, 6, 4].map((count, index) => ({ to_ms: [50, 100, 250, 1000, null][index], count }));
  assert.equal(latencyText(counts), "half within 100 ms, 95 % within 1 s");
  assert.equal(latencyText([{ to_ms: 5000, count: 0 }, { to_ms: null, count: 1 }]), "95 % slower than 5 s");
  assert.equal(latencyText([]), "");
});

test("times are short and local", () => {
  const now = new Date(2026, 10, 30, 12, 0).getTime();
  assert.equal(clock(new Date(2026, 10, 30, 9, 5), now), "today 09:05");
  assert.equal(clock(new Date(2026, 10, 29, 9, 5), now), "yesterday 09:05");
  assert.equal(clock(new Date(2026, 4, 3, 9, 5), now), "3 May 09:05");
  assert.equal(clock(new Date(2025, 4, 3, 9, 5), now), "3 May 2025");
  assert.equal(ago(now - 125_000, now), "2 min ago");
  assert.equal(ago(now + 3 * 86_400_000, now), "in 3 days");
  assert.equal(utc("2026-11-30T10:42:07.5Z"), "2026-11-30 10:42:07 UTC");
  assert.deepEqual([8, 412, 14_000, 240_000, 7_200_000].map(duration), ["less than 0.01 s", "0.4 s", "14 s", "4 min", "2 h"]);
});

test("an ID is derived from a name", () => {
  const rows = [["Welcome text message!", "welcome-text-message"], ["  Überraschung für Zoë ", "uberraschung-fur-zoe"], ["Criteo Márketing (EU)", "criteo-marketing-eu"],
    ["ann_lee-2", "ann_lee-2"], ["42", "42"], ["你好", ""]];
  for (const [name, id] of rows) assert.equal(idOf(name), id);
});

test("the reason of a status is the API's", () => {
  const denied = "Sidekey may not connect to its host";
  for (const status of ["expiring", "failing", "unusable"]) assert.equal(statusReason({ status, problem: denied }), `${denied}.`);
  const failure = { at: "2026-11-30T11:00:00Z", status: 401, code: "" };
  assert.equal(statusReason({ status: "failing", problem: denied }, failure), `${denied}. The last failure: 401.`);
});
