// A client of npm's ws: echo a text, fragments and a mebibyte, ping, close, and print what came back.
import createProxyAgent from "https-proxy-agent";
import WebSocket from "ws";

const [url, proxy] = process.argv.slice(2);
const socket = new WebSocket(url, ["other", "chat"], proxy ? { agent: createProxyAgent(proxy) } : {});
const next = (event) => new Promise((resolve, reject) => {
  socket.once(event, (...values) => resolve(values));
  socket.once("error", reject);
});
const echo = async (send) => {
  const answer = next("message");
  send();
  return (await answer)[0];
};

await next("open");
const text = String(await echo(() => socket.send("grüße")));
const fragments = String(await echo(() => {
  socket.send("one ", { fin: false });
  socket.send("two", { fin: true });
}));
const large = (await echo(() => socket.send(Buffer.alloc(1 << 20, 7)))).length;
const pong = next("pong");
socket.ping("are you there");
const payload = String((await pong)[0]);
const closed = next("close");
socket.close(4001, "done");
const [code] = await closed;
console.log(JSON.stringify([socket.protocol, socket.extensions, text, fragments, large, payload, code]));
