// stripe-node: the third argument says how its requests are sent. Arguments: BASE WAY.
import https from "node:https";
import process from "node:process";
import Stripe from "stripe";

const [base, way] = process.argv.slice(2);
const { hostname, port, protocol } = new URL(base);
const ways = {
  // With its defaults: an agent of its own.
  "default": {},
  "fetch": { httpClient: Stripe.createFetchHttpClient() },
  "proxyEnv": { httpAgent: new https.Agent({ keepAlive: true, proxyEnv: process.env }) },
  // To the reverse proxy: stripe-node knows a host, but no path before its own.
  "reverse": { httpClient: Stripe.createFetchHttpClient((url, init) => fetch(base + new URL(url).pathname, init)) },
};
const stripe = new Stripe("any word", { host: hostname, port, protocol: protocol.slice(0, -1), ...ways[way] });

console.log("get", (await stripe.balance.retrieve()).object);
