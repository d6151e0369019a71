// POST by Node: fetch where there is no proxy; else http.request with the absolute form, as its own proxy support sends
// it from Node 22.21 and 24.5 on (NODE_USE_ENV_PROXY=1). Arguments: URL [ID].
import http from "node:http";

const [url, id] = process.argv.slice(2);
const body = JSON.stringify({ n: 1 });
const headers = { "Content-Type": "application/json", ...(id && { "X-Integration-Id": id }) };

async function direct() {
  const response = await fetch(url, { method: "POST", headers, body });
  console.log(await response.text(), response.status);
}

function through(proxy) {
  if (proxy.username) {
    const user = Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64");
    headers["Proxy-Authorization"] = `Basic ${user}`;
  }
  headers.Host = new URL(url).host;
  const request = http.request({ host: proxy.hostname, port: proxy.port, method: "POST", path: url, headers });
  request.on("response", async (response) => {
    let text = "";
    for await (const piece of response) text += piece;
    console.log(text, response.statusCode);
  });
  request.end(body);
}

if (process.env.http_proxy) through(new URL(process.env.http_proxy));
else await direct();
