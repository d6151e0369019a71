import assert from "node:assert/strict";
import { test } from "node:test";

import { toApiSearch, sentenceOf, textOf } from "../../proxy/sidekey/console/static/sentences.js";

const ENTRY = { number: 1, at: "", who: "ben", label: "", action: "update", fields: [], outcome: "ok", object: "integration", name: "criteo" };
const text = (entry) => textOf({ ...ENTRY, ...entry });

test("a change names its fields, and says that secrets were replaced", () => {
  assert.equal(text({ fields: ["/auth/client_secret"] }), "ben replaced the client secret of the integration criteo.");
  assert.equal(
    text({ fields: ["/auth/password", "/description", "/auth/token_request/body/scope"] }),
    "ben changed the password, the description, and the scope of the integration criteo.",
  );
  const below = ["/auth/token_request/body/audience", "/auth/headers/X-Team", "/test/path", "/test/method"];
  assert.equal(text({ fields: below }), "ben changed the additional fields, the headers, and the test settings of the integration criteo.");
  const pair = ["/auth/certificate/inline", "/auth/private_key"];
  assert.equal(text({ fields: pair }), "ben replaced the certificate and the private key of the integration criteo.");
  const many = ["/a/b", "/c", "/url", "/title", "/tags"];
  assert.equal(text({ fields: many }), "ben changed “a › b”, “c”, the URL, and 2 more settings of the integration criteo.");
  assert.equal(text({}), "ben changed the integration criteo.");
});

test("a refused change says what was tried and why it was refused", () => {
  assert.equal(text({ action: "delete", outcome: "in_use" }), "ben tried to delete the integration criteo, but presets use it.");
  const token = { object: "token", name: "mark" };
  assert.equal(text({ ...token, action: "create", outcome: "forbidden" }), "ben tried to give mark a token, but may not, or did not confirm it with their own token.");
  assert.match(text({ object: "token", name: "", action: "create", outcome: "overlaps" }), /^ben tried to give somebody a token, /);
  assert.equal(text({ outcome: "forbidden" }), "ben tried to change the integration criteo, but may not.");
  assert.equal(text({ outcome: "new_code" }), "ben tried to change the integration criteo, but Sidekey refused it (new_code).");
});

test("a search by the words of sentences finds the actions", () => {
  assert.equal(toApiSearch("Sent welcome"), "send welcome");
  assert.equal(toApiSearch("dana sent conversion not accepted"), "dana send conversion failed");
  assert.equal(toApiSearch("replaced sentence"), "update sentence");
});

test("sends, batches, tests and log-ins", () => {
  const send = { who: "mark", action: "send", object: "preset", name: "welcome", title: "Welcome text message" };
  assert.equal(text(send), "mark sent Welcome text message: accepted.");
  assert.equal(text({ ...send, outcome: "failed" }), "mark sent Welcome text message: not accepted.");
  assert.equal(text({ ...send, outcome: "unknown" }), "mark sent Welcome text message: it may have been sent.");
  const batch = (/** @type {string[]} */ ...rows) => text({ ...send, action: "send batch", outcome: "started", fields: ["batch:1f", ...rows] });
  assert.equal(batch("rows:900-1000"), "mark started a batch of rows 900 to 1000 with Welcome text message.");
  assert.equal(batch("rows:7-7"), "mark started a batch of row 7 with Welcome text message.");
  assert.equal(batch(), "mark started a batch of several rows with Welcome text message.");
  assert.equal(text({ action: "test", outcome: "failed" }), "ben tested the integration criteo: it failed.");
  assert.equal(text({ action: "test draft", name: "" }), "ben tested an unsaved integration: it works.");
  assert.equal(text({ action: "login", object: "", name: "" }), "ben logged in.");
  assert.equal(text({ action: "end", object: "session", name: "mark" }), "ben ended a session of mark.");
  assert.equal(text({ action: "login", outcome: "more not listed" }), "ben: more log-ins in this hour are not listed.");
});

test("an unknown action is shown as it is", () => {
  assert.equal(text({ action: "paint", outcome: "ok" }), "ben: paint the integration criteo (ok).");
  assert.equal(text({ action: "altered", who: "" }), "Something other than Sidekey altered this entry.");
});

test("a person of the company log-in cannot look like an operator", () => {
  const entry = { who: "oidc:https://idp.example.com#a91b8f1c", label: "ops" };
  assert.match(text(entry), /^ops \(company account, …8f1c\) changed /);
  assert.match(text({ who: "ops" }), /^ops changed /);
});

test("the object of a sentence is a link while it exists", () => {
  const refused = sentenceOf({ ...ENTRY, action: "create", outcome: "overlaps" });
  assert.ok(refused.every((part) => typeof part === "string"));
  assert.deepEqual(sentenceOf({ ...ENTRY, action: "delete" }), ["ben ", "deleted ", "the integration criteo", "."]);
  assert.deepEqual(sentenceOf({ ...ENTRY, title: "Criteo" }), [
    "ben ",
    "changed ",
    "the integration ",
    { object: "integration", name: "criteo", text: "Criteo" },
    ".",
  ]);
});
