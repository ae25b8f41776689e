"""A daemon's admin socket, played: it answers what the test says, for states that are hard to bring about."""

import json
import socket
import threading


class FakeAdmin(threading.Thread):
    """Answers each method by `answers[method]`: a result, or a function of the params that returns one."""

    def __init__(self, path, answers):
        super().__init__(daemon=True)
        self.path = path
        self.answers = answers
        self.calls = []
        self.peers = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()

    @property
    def address(self):
        return f"unix:{self.path}"

    def run(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer, peer.makefile("r") as lines:
            try:
                for line in lines:
                    call = json.loads(line)
                    peer.sendall(json.dumps(self.answer(call)).encode() + b"\n")
            except OSError:
                return

    def answer(self, call):
        method, params = call["method"], call.get("params", {})
        self.calls.append((method, params))
        answer = self.answers.get(method)
        if answer is None:
            error = {"code": -32601, "message": f"unknown method {method}", "data": {"reason": "unknown_method"}}
            return {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return {"jsonrpc": "2.0", "id": call["id"], "result": answer(params) if callable(answer) else answer}

    def stop(self):
        """Ends as a daemon that is killed."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()
        self.path.unlink()
        for peer in self.peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
