"""A network between clients and a server that can be broken at will."""

import socket
import struct
import threading


class Network:
    """A way to a server that can be broken: what is on it is lost, and nobody gets through until it is up again."""

    def __init__(self, port):
        self.server_port = port
        self.is_down = False
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = None if self.is_down else self._connect()
            if far is None:
                self._reset(near)
                continue
            self.sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()
            if self.is_down:
                # It went down while the server was being reached.
                self.down()

    def _connect(self):
        try:
            return socket.create_connection(("127.0.0.1", self.server_port))
        except OSError:
            return None

    @staticmethod
    def _reset(end):
        """Closes it so that whoever is there knows at once: Node's fetch waits where a connection ends before it has asked."""
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()

    @staticmethod
    def _carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def down(self):
        self.is_down = True
        for end in self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def up(self):
        self.is_down = False

    def close(self):
        self.down()
        self.listener.close()
        for end in self.sockets:
            end.close()
