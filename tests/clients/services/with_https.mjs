// https.get and https.request of Node, with the global agent.
import { createReadStream } from "node:fs";
import https from "node:https";
import { pipeline } from "node:stream";
import { base, digest, events, file, run, SMALL, text } from "./cases.mjs";

const get = (path) => new Promise((resolve, reject) => https.get(base + path, resolve).on("error", reject));
const post = (path) =>
  new Promise((resolve, reject) => {
    const request = https.request(base + path, { method: "POST" }, resolve).on("error", reject);
    if (path === "/small") request.end(SMALL);
    else pipeline(createReadStream(file), request, (error) => error && reject(error));
  });

await run({
  get: async () => text(await get("/small")),
  post: async () => text(await post("/small")),
  download: async () => digest(await get("/large")),
  upload: async () => text(await post("/large")),
  events: async () => events(await get("/events")),
});
