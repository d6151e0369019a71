import assert from "node:assert/strict";
import { test } from "node:test";
import { diff, maskSecrets } from "../../proxy/sidekey/console/static/diff.js";
import { merge, withValue } from "../../proxy/sidekey/console/static/forms/document.js";
import { fieldsOf, nextId, suggestedTest } from "../../proxy/sidekey/console/static/forms/kinds.js";
import { EMPTY_ROW, unshownPaths, loadValues, rowErrors, saveValues } from "../../proxy/sidekey/console/static/forms/model.js";
import { keyText } from "../../proxy/sidekey/console/static/words.js";
import { toYaml } from "../../proxy/sidekey/console/static/yaml.js";

const STORED = { set: true, id: "s_1", set_at: "2026-05-03T10:00:00Z", set_by: "ann" };

const OAUTH = {
  id: "criteo",
  auth: {
    type: "oauth2",
    token_endpoint: "https://a.example/token",
    client_id: "c",
    client_secret: STORED,
    token_request: { format: "json", body: { scope: "x", tries: 3, key: STORED }, query: { q: "1" } },
    token_lifetime: "15m",
  },
};

/** @param {any} document @param {(values: any) => any} change */
function edited(document, change) {
  const fields = fieldsOf(document.auth.type, null, []);
  const values = loadValues(fields, document);
  return saveValues(fields, document, { ...values, ...change(values) });
}

test("a stored secret is sent back until it is replaced, and can be put back", () => {
  const replaced = edited(OAUTH, ({ client_secret: secret }) => ({ client_secret: { ...secret, replacing: true, text: "new" } }));
  assert.deepEqual(replaced.auth.client_secret, { value: "new" });
  const back = edited(OAUTH, ({ client_secret: secret }) => ({ client_secret: { ...secret, replacing: false, text: "new" } }));
  assert.deepEqual(back, OAUTH);
});

test("a row that is renamed or moved keeps the others, with their numbers and secrets", () => {
  const after = edited(OAUTH, ({ token_request: rows }) => ({
    token_request: rows.map((/** @type {any} */ row) => (row.name === "scope" ? { ...row, place: "query" } : row)),
  }));
  assert.deepEqual(after.auth.token_request, { format: "json", body: { tries: 3, key: STORED }, query: { scope: "x", q: "1" } });
  const without = edited(OAUTH, () => ({ token_request: [] }));
  assert.deepEqual(without.auth.token_request, { format: "json" });
});

test("names that a document cannot have twice, or at all, are errors of their rows", () => {
  const rows = [{ ...EMPTY_ROW, name: "a" }, { ...EMPTY_ROW, name: "a" }, { ...EMPTY_ROW, text: "x" }, EMPTY_ROW];
  assert.deepEqual(rowErrors(rows), ["", "Row 1 is called a, too. Rename one.", "Enter a name.", ""]);
});

test("keys that the form does not show are counted", () => {
  const fields = fieldsOf("oauth2", null, []);
  assert.deepEqual(unshownPaths(fields, OAUTH).map((path) => path.join(".")), ["auth.token_request.format", "auth.token_lifetime"]);
});

test("a switch that is turned off removes the domains, and on again writes them", () => {
  const on = edited(OAUTH, () => ({ domains: { isOn: true, items: ["https://b.example", " "] } }));
  assert.deepEqual([on.allow_other_domains, on.allowed_domains], [true, ["https://b.example"]]);
  assert.deepEqual(edited(on, ({ domains }) => ({ domains: { ...domains, isOn: false } })), OAUTH);
});

test("my changes are applied to a document that somebody else has changed", () => {
  const mine = withValue(OAUTH, ["auth", "client_id"], "mine");
  const theirs = withValue(withValue(OAUTH, ["auth", "client_secret"], { ...STORED, id: "s_2" }), ["tags"], ["t"]);
  const merged = merge(OAUTH, mine, theirs);
  assert.equal(merged.auth.client_id, "mine");
  assert.equal(merged.auth.client_secret.id, "s_2");
  assert.deepEqual(merge(OAUTH, withValue(OAUTH, ["auth", "token_lifetime"], undefined), theirs).auth.token_lifetime, undefined);
});

test("names such as __proto__ are names", () => {
  const document = JSON.parse('{"auth": {"type": "oauth2", "token_request": {"body": {"__proto__": "x", "constructor": "y"}}}}');
  const after = edited(document, ({ token_request: rows }) => ({ token_request: [...rows, { ...EMPTY_ROW, name: "z", text: "1" }] }));
  assert.equal(JSON.stringify(after.auth.token_request.body), '{"__proto__":"x","constructor":"y","z":"1"}');
  assert.match(toYaml(document), /__proto__: x/);
});

test("labels are derived from keys", () => {
  assert.equal(keyText("api_host"), "API host");
  assert.equal(keyText("client_id"), "client ID");
});

test("a diff shows the changed lines, and no secret", () => {
  const document = (/** @type {string} */ secret, /** @type {string} */ url) => ({
    id: "a",
    auth: {
      type: "mtls",
      certificate: { url },
      private_key: { value: `-----BEGIN\n${secret}\n\nEND` },
      login: { url: "https://shown.example" },
      note: "n",
    },
  });
  const before = toYaml(document("canary-one", "https://a.example/canary-two"));
  const after = toYaml(document("canary-three", "https://a.example/canary-four"));
  const lines = diff(before, after);
  assert.equal(lines.filter(({ sign }) => sign === "-").length, 2);
  assert.equal(lines.filter(({ sign }) => sign === "+").length, 2);
  assert.ok(!JSON.stringify(lines).includes("canary"));
  assert.ok(maskSecrets(after.split("\n")).some((line) => line.includes("https://shown.example")));
  for (const line of ["a: {value: canary}", "a: {set: true, 'value': 'ca''nary'}", "- value: canary", "certificate: {url: https://canary}"]) {
    assert.ok(!maskSecrets([line]).join("").includes("nary"), line);
  }
  assert.deepEqual(diff("a\nb\nc\nd\ne\nf\ng\n", "a\nb\nc\nX\ne\nf\ng\n").map(({ sign, text }) => sign + text), [" b", " c", "-d", "+X", " e", " f"]);
});

test("a certificate and its key come as text or from a URL", () => {
  const document = { id: "bank", auth: { type: "mtls" } };
  const pair = (/** @type {any} */ certificate, /** @type {any} */ key) =>
    edited(document, (values) => ({ certificate: { ...values.certificate, ...certificate }, private_key: { ...values.private_key, ...key } })).auth;
  assert.deepEqual(pair({ text: "PEM" }, { text: "KEY" }), { type: "mtls", certificate: { inline: "PEM" }, private_key: { value: "KEY" } });
  const url = { by: "url", url: "https://a.example/pem", text: "PEM" };
  assert.deepEqual(pair(url, url), { type: "mtls", certificate: { url: url.url }, private_key: { url: url.url } });
});

test("the next ID has the next number, and stays within the limit", () => {
  assert.deepEqual(["criteo", "criteo-2", "a".repeat(63)].map(nextId), ["criteo-2", "criteo-3", `${"a".repeat(61)}-2`]);
});

test("a test is suggested only if it needs no change", () => {
  const path = (notes, test = null) => suggestedTest({ notes, test })?.path ?? null;
  assert.equal(path("Use `GET /v1.0/organization`."), "/v1.0/organization");
  assert.equal(path("Use `GET /PROJECT_KEY`."), null);
  assert.equal(path("Use `GET /Accounts/AC.../x.json`."), null);
  assert.equal(path("None.", { method: "GET", path: "/me" }), "/me");
});
