// fetch, as the runtime has it.
import { readFile } from "node:fs/promises";
import { base, digest, events, file, run, SMALL } from "./cases.mjs";

const post = async (path, body) => (await fetch(base + path, { method: "POST", body })).text();

await run({
  get: async () => (await fetch(`${base}/small`)).text(),
  post: () => post("/small", SMALL),
  download: async () => digest((await fetch(`${base}/large`)).body),
  upload: async () => post("/large", await readFile(file)),
  events: async () => events((await fetch(`${base}/events`)).body),
});
