// A server of npm's ws: print the port, echo every message, and print a line for each socket at its end.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true, maxPayload: 1 << 26 });
server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket, request) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("close", (code) => console.log(JSON.stringify([request.url, request.headers.authorization, code])));
});
