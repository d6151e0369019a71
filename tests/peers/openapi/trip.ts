// Creates, reads, changes and deletes an integration and a preset by openapi-fetch, with the types that openapi-typescript
// generates. Arguments: the address of the admin listener, an operator's token, the prefix of the upstream.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const [address = "", token = "", prefix = ""] = process.argv.slice(2);
const api = createClient<paths, "application/json" | "application/problem+json">({ baseUrl: address, headers: { Authorization: `Bearer ${token}` } });

const check = (condition: boolean, text: string): void => {
  if (!condition) throw new Error(text);
};

const tag = (response: Response): string => response.headers.get("ETag") ?? "";

const integration: components["schemas"]["NewIntegration"] = {
  id: "by-typescript",
  endpoint_prefix: prefix,
  auth: { type: "basic", username: { value: "svc" }, password: { value: "canary" } },
};
const preset: components["schemas"]["NewPreset"] = {
  id: "by-typescript",
  integration: "by-typescript",
  url: `${prefix}/users/{{user}}`,
  parameters: { user: { type: "text" } },
  body: { json: { text: "Hello {{user}}" } },
};
const params = { path: { id: "by-typescript" } };

const created = await api.POST("/api/v1/integrations", { body: integration });
check(created.response.status === 201 && created.data?.status === "ok", "the integration is not created");
const again = await api.POST("/api/v1/integrations", { body: integration });
check(again.error?.code === "exists", "the integration is created twice");
const read = await api.GET("/api/v1/integrations/{id}", { params });
check(read.data?.auth?.type === "basic" && tag(read.response) === tag(created.response), "the integration is not read");
if (read.data?.auth === undefined) throw new Error("the integration has no auth");

// A document that was read can be sent back: its secrets are kept.
const replaced = await api.PUT("/api/v1/integrations/{id}", {
  params: { ...params, header: { "If-Match": tag(read.response) } },
  body: { ...read.data, auth: read.data.auth, description: "replaced" },
});
check(replaced.data?.description === "replaced" && replaced.data.version === 2, "the integration is not replaced");
const headers = { "Content-Type": "application/merge-patch+json" };
const patch = { headers, params: { ...params, header: { "If-Match": tag(created.response) } }, body: { tags: ["patched"] } };
check((await api.PATCH("/api/v1/integrations/{id}", patch)).response.status === 412, "an old ETag is accepted");
patch.params.header["If-Match"] = tag(replaced.response);
const patched = await api.PATCH("/api/v1/integrations/{id}", patch);
check(patched.data?.tags?.[0] === "patched", "the integration is not patched");
const listed = await api.GET("/api/v1/integrations", { params: { query: { tag: "patched", kind: "basic" } } });
check(listed.data?.items.map((item) => item.id).join() === "by-typescript", "the integration is not listed");

const made = await api.POST("/api/v1/presets", { body: preset });
check(made.response.status === 201 && made.data?.url === preset.url, "the preset is not created");
const shown = await api.POST("/api/v1/presets/{id}/preview", { params, body: { parameters: { user: "ann" } } });
check(shown.data?.request?.url === `${prefix}/users/ann`, "the preset is not previewed");
const used = await api.DELETE("/api/v1/integrations/{id}", {
  params: { ...params, header: { "If-Match": "*" } },
});
check(used.error?.code === "in_use", "an integration that a preset uses is deleted");
const renamed = await api.PUT("/api/v1/presets/{id}", {
  params: { ...params, header: { "If-Match": tag(made.response) } },
  body: { ...preset, description: "replaced" },
});
check(renamed.data?.description === "replaced", "the preset is not replaced");
const changed = await api.PATCH("/api/v1/presets/{id}", {
  headers,
  params: { ...params, header: { "If-Match": tag(renamed.response) } },
  body: { tags: ["patched"] },
});
check(changed.data?.version === 3, "the preset is not patched");
for (const [path, response] of [
  ["/api/v1/presets/{id}", changed.response],
  ["/api/v1/integrations/{id}", patched.response],
] as const) {
  const deleted = await api.DELETE(path, { params: { ...params, header: { "If-Match": tag(response) } } });
  check(deleted.response.status === 204, `${path} is not deleted`);
  check((await api.GET(path, { params })).error?.code === "not_found", `${path} is still there`);
}
