"""uWebSockets, the C++ server, through the Python package that carries it: Python runs once a publish, the fan-out is
C++ alone (a topic of uWebSockets' own)."""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()


def upgrade(response, request, context):
    response.upgrade(
        request.get_header("sec-websocket-key"),
        request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"),
        context,
        request.get_parameter(0),
    )


def broadcast(socket, message, opcode):
    app.publish(socket.get_user_data(), message, opcode)


shared = {"compression": CompressOptions.DISABLED, "max_payload_length": 1 << 20, "idle_timeout": 120,
          "max_backpressure": 64 << 20}
app.ws("/room/:name", {**shared, "upgrade": upgrade, "message": broadcast,
                       "open": lambda socket: socket.subscribe(socket.get_user_data())})
app.ws("/echo", {**shared, "message": lambda socket, message, opcode: socket.send(message, opcode)})
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
