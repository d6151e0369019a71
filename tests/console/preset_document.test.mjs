import assert from "node:assert/strict";
import { test } from "node:test";

import { NEW_DRAFT, NEW_PARAMETER, documentOf, draftOf, formOf, undeclared, findFormErrors } from "../../proxy/sidekey/console/static/preset_document.js";
import { Exact, writeExact } from "../../proxy/sidekey/console/static/exact.js";

const MEMBERS = { source: "store", version: 3, status: "ok", problem: null, created_at: "", updated_at: "", updated_by: "ann" };
const PRESET = {
  title: "Welcome", help: "Greets", description: "d", tags: ["a", "b"], integration: "crm", method: "PUT",
  url: "https://api.example.com/{{user}}", headers: { "X-A": "1" },
};
const PARAMETERS = {
  user: { type: "text", max_length: 64, title: "User", format: "email", example: "a@b.example" },
  points: { type: "number", default: 0, enum: [0, 1] },
  loud: { type: "boolean", default: false },
  note: { type: "text", default: "" },
};

const saved = (document) => JSON.parse(documentOf(draftOf({ id: "welcome", ...MEMBERS, ...document })));

test("a document that is read and saved again does not change", () => {
  for (const body of [{ json: { text: "Hello {{user}}", n: 1.5, more: [null, true, {}] } }, { text: "<a/>", content_type: "text/xml" }, { form: { a: "{{user}}" } }]) {
    const document = { ...PRESET, parameters: PARAMETERS, body };
    assert.deepEqual(saved(document), { id: "welcome", ...document });
    assert.equal(JSON.stringify(saved(document)), JSON.stringify({ id: "welcome", ...document }));
  }
  const payload = { ...PRESET, content_type: "application/json" };
  assert.deepEqual(saved(payload), { id: "welcome", ...payload });
  assert.deepEqual(saved({ ...PRESET, later_key: [1] }).later_key, [1]);
});

test("numbers keep their digits", () => {
  const text = '{"a":[1.10,12345678901234567890],"b":"x"}';
  const value = { a: [new Exact("1.10"), new Exact("12345678901234567890")], b: "x" };
  assert.equal(writeExact(value), text);
  assert.equal(writeExact({ a: [], b: {}, c: [1, { d: 2 }] }, "  "), '{\n  "a": [],\n  "b": {},\n  "c": [\n    1,\n    {\n      "d": 2\n    }\n  ]\n}');
  const draft = { ...NEW_DRAFT, parameters: [{ ...NEW_PARAMETER, name: "n", type: "number", required: false, default: "1.10", example: "x" }] };
  assert.match(documentOf(draft), /"n":\{"type":"number","default":1\.10,"example":"x"\}/);
});

test("an optional parameter has a default", () => {
  const of = (more) => JSON.parse(documentOf({ ...NEW_DRAFT, parameters: [{ ...NEW_PARAMETER, name: "p", ...more }] })).parameters.p;
  assert.deepEqual(of({}), { type: "text" });
  assert.deepEqual(of({ default: "left over" }), { type: "text" });
  assert.deepEqual(of({ required: false }), { type: "text", default: "" });
  assert.deepEqual(of({ required: false, type: "boolean" }), { type: "boolean", default: false });
  assert.deepEqual(of({ required: false, type: "number" }), { type: "number", required: false });
});

test("names that occur twice and text that is not JSON are refused before anything is lost", () => {
  const twice = [{ name: "a", value: "1" }, { name: "a", value: "2" }];
  assert.deepEqual(findFormErrors(NEW_DRAFT), {});
  assert.match(findFormErrors({ ...NEW_DRAFT, headers: twice }).headers, /^Two headers are called a\./);
  assert.match(findFormErrors({ ...NEW_DRAFT, takes: "form", form: twice }).form, /fields are called a/);
  assert.match(findFormErrors({ ...NEW_DRAFT, parameters: [{ ...NEW_PARAMETER, name: "x" }, { ...NEW_PARAMETER, name: "x" }] }).parameters, /called x/);
  assert.match(findFormErrors({ ...NEW_DRAFT, json: "{" }).json, /^This is not JSON\. /);
  assert.deepEqual(findFormErrors({ ...NEW_DRAFT, json: "{", takes: "text" }), {});
});

test("placeholders that are no parameter yet are found", () => {
  const draft = { ...NEW_DRAFT, url: "https://a.example/{{user}}", json: '{"a": "{{phone}} {{user}} {{{{not}}"}', headers: [{ name: "X", value: "{{tag}}" }] };
  assert.deepEqual(undeclared(draft), ["user", "tag", "phone"]);
  assert.deepEqual(undeclared({ ...draft, parameters: [{ ...NEW_PARAMETER, name: "phone" }] }), ["user", "tag"]);
  assert.deepEqual(undeclared({ ...draft, takes: "payload" }), []);
});

test("the form of a sender follows the draft", () => {
  const draft = draftOf({ id: "welcome", ...PRESET, parameters: PARAMETERS, body: { json: {} } });
  const form = formOf(draft);
  assert.deepEqual([form.takes, form.title, form.parameters.map(({ name }) => name)], ["parameters", "Welcome", ["user", "points", "loud", "note"]]);
  assert.deepEqual([form.parameters[0].max_length, form.parameters[1].default, form.parameters[1].enum], [64, "0", ["0", "1"]]);
  assert.equal(formOf({ ...draft, takes: "payload" }).takes, "payload");
});
