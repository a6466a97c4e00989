// Socket.IO 4 on Node's own HTTP server, WebSocket transport only.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack("ok");
  });
  socket.on("publish", (room, data) => io.to(room).emit("event", data));
  socket.on("echo", (data, ack) => ack(data));
});
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
