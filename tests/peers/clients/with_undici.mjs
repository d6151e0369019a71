// undici, with the agent that reads the variables.
import { createReadStream } from "node:fs";
import { EnvHttpProxyAgent, request, setGlobalDispatcher } from "undici";
import { base, digest, events, file, run, SMALL } from "../../clients/services/cases.mjs";

setGlobalDispatcher(new EnvHttpProxyAgent());

const get = async (path) => (await request(base + path)).body;
const post = async (path, body) => (await request(base + path, { method: "POST", body })).body.text();

await run({
  get: async () => (await get("/small")).text(),
  post: () => post("/small", SMALL),
  download: async () => digest(await get("/large")),
  upload: () => post("/large", createReadStream(file)),
  events: async () => events(await get("/events")),
});
