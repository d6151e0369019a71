// The pages. The first route that fits a path wins. `may` is the permission without which a page is not shown.
// Pages that add something are below /add, since "add" may be an ID.

/** @type {import("./router.js").Route[]} */
export const ROUTES = [
  { path: "/send", page: () => import("./pages/send_list.js"), may: "send" },
  { path: "/send/:id", page: () => import("./pages/send.js"), may: "send" },
  { path: "/integrations", page: () => import("./pages/integrations.js"), may: "viewer" },
  { path: "/add/integrations", page: () => import("./pages/add.js"), may: "editor" },
  { path: "/integrations/:id", page: () => import("./pages/integration.js"), may: "viewer" },
  { path: "/providers", page: () => import("./pages/providers.js"), may: "viewer" },
  { path: "/add/integrations/:kind", page: () => import("./pages/form.js"), may: "editor" },
  { path: "/integrations/:id/edit", page: () => import("./pages/form.js"), may: "editor" },
  { path: "/login", page: () => import("./pages/login.js") },
  { path: "/presets", page: () => import("./pages/presets.js"), may: "viewer" },
  { path: "/add/presets", page: () => import("./pages/preset_form.js"), may: "editor" },
  { path: "/presets/:id", page: () => import("./pages/preset.js"), may: "viewer" },
  { path: "/presets/:id/edit", page: () => import("./pages/preset_form.js"), may: "editor" },
  { path: "/access", page: () => import("./pages/access.js"), may: "admin" },
  { path: "/add/access/people", page: () => import("./pages/person.js"), may: "admin" },
  { path: "/access/people/:name", page: () => import("./pages/person.js"), may: "admin" },
  { path: "/add/access/callers", page: () => import("./pages/caller.js"), may: "admin" },
  { path: "/access/callers/:name", page: () => import("./pages/caller.js"), may: "admin" },
  { path: "/activity", page: () => import("./pages/activity.js"), may: "admin" },
  { path: "/callback", page: () => import("./pages/callback.js") },
];

/** The pages in the bar at the top: path, name, permission. */
export const BAR = [
  ["/send", "Send", "send"],
  ["/integrations", "Integrations", "viewer"],
  ["/presets", "Presets", "viewer"],
  ["/activity", "Activity", "admin"],
  ["/access", "Access", "admin"],
  ["/providers", "Providers", "viewer"],
];
