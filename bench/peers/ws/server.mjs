// ws, the plain WebSocket server of Node: rooms are sets, a broadcast is a loop, as its own documentation has it.
import { WebSocketServer } from "ws";

const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096, perMessageDeflate: false });

server.on("connection", (socket, request) => {
  const [, kind, name] = request.url.split("/");
  if (kind === "echo") {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    return;
  }
  if (!rooms.has(name)) rooms.set(name, new Set());
  const room = rooms.get(name).add(socket);
  socket.on("message", (data, isBinary) => {
    for (const member of room) if (member.readyState === 1) member.send(data, { binary: isBinary });
  });
  socket.on("close", () => room.delete(socket));
  socket.on("error", () => {});
});
