// axios, with its defaults.
import { createReadStream } from "node:fs";
import axios from "axios";
import { base, digest, events, file, run, SMALL } from "../../clients/services/cases.mjs";

const stream = async (path) => (await axios.get(base + path, { responseType: "stream" })).data;

await run({
  get: async () => (await axios.get(`${base}/small`)).data,
  post: async () => (await axios.post(`${base}/small`, SMALL)).data,
  download: async () => digest(await stream("/large")),
  upload: async () => (await axios.post(`${base}/large`, createReadStream(file))).data,
  events: async () => events(await stream("/events")),
});
