// The pages. The first route that fits a path wins. `may` is the permission without which a page is not shown.

/** @type {import("./router.js").Route[]} */
export const ROUTES = [
  { path: "/", page: () => import("./pages/home.js"), may: "sends" },
  { path: "/send", page: () => import("./pages/send_list.js"), may: "send" },
  { path: "/send/:id", page: () => import("./pages/send.js"), may: "send" },
  { path: "/login", page: () => import("./pages/login.js") },
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
