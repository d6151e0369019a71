import assert from "node:assert/strict";
import test from "node:test";
import { get, patch, post, put } from "../../proxy/sidekey/console/static/api.js";
import { match } from "../../proxy/sidekey/console/static/router.js";
import { store } from "../../proxy/sidekey/console/static/session.js";

/** Respond to the next call, and return what it sent. */
function respond(status, body, headers = {}) {
  const sent = {};
  globalThis.fetch = async (url, options) => {
    Object.assign(sent, { url, ...options });
    return new Response(body, { status, headers: { "Content-Type": "application/json", ...headers } });
  };
  return sent;
}

test("a call sends the header of the console, its query and its condition", async () => {
  const sent = respond(200, '{"items": []}', { ETag: '"2"' });
  const result = await get("/forms", { query: { q: "a b", after: "", tag: null, with: "usage" } });
  assert.equal(sent.url, "/api/v1/forms?q=a+b&with=usage");
  assert.deepEqual(sent.headers, { "Sidekey-Console": "1" });
  assert.deepEqual(result, { ok: true, status: 200, body: { items: [] }, etag: '"2"', retryAfter: null });
  const changed = respond(200, "{}");
  await put("/presets/a", { a: 1 }, { etag: '"2"' });
  assert.deepEqual(changed.headers, { "Sidekey-Console": "1", "Content-Type": "application/json", "If-Match": '"2"' });
  const patched = respond(200, "{}");
  await patch("/presets/a", { a: null });
  assert.equal(patched.headers["Content-Type"], "application/merge-patch+json");
  const text = respond(204, null);
  assert.equal((await post("/drafts", "a: 1", { headers: { "Content-Type": "application/yaml" } })).body, null);
  assert.deepEqual([text.body, text.headers["Content-Type"]], ["a: 1", "application/yaml"]);
});

test("a number that JavaScript would change stays text", async (context) => {
  if (JSON.parse("1", (_, value, more) => more?.source) === undefined) return context.skip("this node has no source texts");
  respond(200, '[1.10, 12345678901234567890, 3, -0.5, 1e2, "1.10", null, true]');
  return assert.deepEqual((await get("/x")).body, ["1.10", "12345678901234567890", 3, -0.5, "1e2", "1.10", null, true]);
});

test("problems are values, also a lost connection and a response from another server", async () => {
  respond(429, '{"code": "send_limit", "title": "t", "detail": "d"}', { "Content-Type": "application/problem+json", "Retry-After": "14" });
  const limited = await post("/x", {});
  assert.deepEqual([limited.ok, limited.problem.code, limited.problem.errors, limited.retryAfter], [false, "send_limit", [], 14]);
  respond(502, "<h1>Bad gateway</h1>", { "Content-Type": "text/html" });
  assert.equal((await get("/x")).problem.title, "Unexpected response (502)");
  respond(200, "{", {});
  assert.equal((await get("/x")).problem?.code, "unexpected");
  globalThis.fetch = async () => {
    throw new TypeError("Failed to fetch");
  };
  const lost = await get("/x");
  assert.deepEqual([lost.status, lost.problem.code], [0, "no_connection"]);
});

test("a store that cannot be reached is noticed on any call", async () => {
  respond(503, '{"code": "store_unavailable", "title": "t", "detail": "d"}');
  await get("/x");
  assert.equal(store.value, "unavailable");
});

test("the first matching route wins, and names are decoded", () => {
  const table = [{ path: "/" }, { path: "/integrations/add" }, { path: "/integrations/:id" }, { path: "/integrations/:id/edit" }];
  const found = (path) => {
    const result = match(table, path);
    return result && [result.route.path, result.params];
  };
  assert.deepEqual(found("/"), ["/", {}]);
  assert.deepEqual(found("/integrations/add"), ["/integrations/add", {}]);
  assert.deepEqual(found("/integrations/a%2Fb"), ["/integrations/:id", { id: "a/b" }]);
  assert.deepEqual(found("/integrations/x/edit"), ["/integrations/:id/edit", { id: "x" }]);
  for (const path of ["/integrations/", "/integrations/%ff", "/integrations/x/y/z", "/nowhere"]) assert.equal(found(path), null);
});
