#!/usr/bin/env python3
"""What strangers may do to the server's transport, and what must come of it.

    tests/faults_http.py PATH-OF-HTTP_TARGET

Slow readers, floods past each limit, clients that vanish, random bytes; every code is checked, other
clients go on meanwhile, and at the end memory, descriptors and requests are what they were. With
OL_TEST_SLOW=1: 2,000 connections and 100,000 requests. Prints a line per failed check and "N passed,
N failed".
"""
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

TARGET = os.path.abspath(sys.argv[1])
SLOW = os.environ.get("OL_TEST_SLOW") == "1"
CROWD = 2000 if SLOW else 250
REQUESTS = 100000 if SLOW else 6000
NOISE = 20000 if SLOW else 600
CONNECTIONS = CROWD + 50
RSS_GROWTH_MAX = 6 << 20
HEAD = b"Host: localhost\r\n"
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def raise_files():
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def get(path, more=b""):
    return b"GET " + path + b" HTTP/1.1\r\n" + HEAD + more + b"\r\n"


class Target:
    def __init__(self):
        self.process = subprocess.Popen([TARGET, str(CONNECTIONS)], stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().split()[1])
        with open("/proc/%d/maps" % self.process.pid) as maps:
            text = maps.read()
        self.sanitized = "asan" in text or "tsan" in text

    def dial(self, receive=None, source=None):
        s = socket.socket()
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        if source:
            s.bind((source, 0))
        s.settimeout(15)
        s.connect(("127.0.0.1", self.port))
        return s

    def rss(self):
        with open("/proc/%d/status" % self.process.pid) as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) << 10

    def files(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def metric(self, name):
        s = self.dial()
        s.sendall(get(b"/metrics", b"Connection: close\r\n"))
        text = read_all(s).decode()
        s.close()
        for line in text.split("\n"):
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None


def read_all(s, most=1 << 22):
    """All bytes until the other side closes."""
    pieces = []
    try:
        while sum(map(len, pieces)) < most:
            piece = s.recv(65536)
            if not piece:
                break
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def read_answer(s, rest=b""):
    """(code, body, what came beyond) of an answer with a length or chunks."""
    data = rest
    while b"\r\n\r\n" not in data:
        piece = s.recv(65536)
        if not piece:
            return None, b"", data
        data += piece
    head, data = data.split(b"\r\n\r\n", 1)
    code = int(head.split()[1])
    fields = dict(l.lower().split(b": ", 1) for l in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        while len(data) < length:
            data += s.recv(65536)
        return code, data[:length], data[length:]
    while b"\r\n0\r\n\r\n" not in data:
        piece = s.recv(65536)
        if not piece:
            return None, data, b""
        data += piece
    body, data = data.split(b"\r\n0\r\n\r\n", 1)
    return code, body, data


def code_of(answer):
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else None


def ask(target, request, **kw):
    s = target.dial(**kw)
    try:
        s.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        pass
    answer = read_all(s)
    s.close()
    return code_of(answer)


class Neighbour(threading.Thread):
    """Another client, all the while: its longest wait is what others do to it."""

    def __init__(self, target):
        super().__init__()
        self.target, self.stop, self.waits, self.bad = target, False, [], 0

    def run(self):
        s, rest = self.target.dial(), b""
        while not self.stop:
            start = time.monotonic()
            s.sendall(get(b"/hello"))
            code, _, rest = read_answer(s, rest)
            self.waits.append(time.monotonic() - start)
            self.bad += code != 200
            time.sleep(0.01)
        s.close()


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def settled(target, what):
    """The one active request is the question itself."""
    check("no request is left after " + what,
          wait_until(lambda: target.metric("openledger_http_requests_active") == 1.0))


def limits(target):
    """Past each limit, its code."""
    rows = [
        ("long head", b"GET /hello HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 17000 + b"\r\n\r\n", 431),
        ("endless head", b"GET /hello HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 300000, 431),
        ("many fields", get(b"/hello", b"".join(b"X%d: 1\r\n" % i for i in range(100))), 431),
        ("endless fields", get(b"/hello", b"X: 1\r\n" * 20000), 431),
        ("long address", get(b"/" + b"a" * 5000), 414),
        ("endless address", b"GET /" + b"a" * 300000, 414),
        ("long body", b"POST /sink HTTP/1.1\r\n" + HEAD + b"Content-Length: 1048577\r\n\r\n" +
         b"a" * 500000, 413),
        ("endless chunks", b"POST /sink HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" +
         b"10000\r\n" + b"a" * 65536 + b"\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 30, 413),
        ("head that stops", b"GET /hello HTTP/1.1\r\nHo", 408),
        ("body that stops", b"POST /sink HTTP/1.1\r\n" + HEAD + b"Content-Length: 10\r\n\r\nab", 408),
        ("chunks that stop", b"POST /sink HTTP/1.1\r\n" + HEAD +
         b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", 408),
    ]
    results = {}

    def one(name, request):
        results[name] = ask(target, request)
    threads = [threading.Thread(target=one, args=(n, r)) for n, r, _ in rows]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for name, _, code in rows:
        check(name, results.get(name) == code, "%s instead of %d" % (results.get(name), code))
    # A byte now and then does not keep a connection.
    s, start = target.dial(), time.monotonic()
    answer = b""
    for byte in b"GET /hello HTTP/1.1\r\n" + HEAD * 50:
        try:
            s.send(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            break
        if select.select([s], [], [], 0.05)[0]:
            answer = read_all(s)
            break
    check("dripping head", code_of(answer) == 408 and time.monotonic() - start < 5, answer[:40])
    s.close()


def connection_flood(target):
    held, codes = [], []
    for _ in range(CONNECTIONS + 40):
        held.append(target.dial())
    time.sleep(0.2)
    for s in held[-60:]:
        try:
            s.sendall(get(b"/hello"))
            codes.append(read_answer(s)[0])
        except OSError:
            codes.append(None)
    check("over the connections: 503", codes.count(503) >= 35 and set(codes) <= {200, 503},
          {c: codes.count(c) for c in codes})
    for s in held:
        s.close()
    check("room again", wait_until(lambda: ask(target, get(b"/hello", b"Connection: close\r\n"))
                                   == 200))


def slow_readers(target):
    """They ask for an endless stream and read nothing: each is ended, others do not feel it."""
    neighbour = Neighbour(target)
    neighbour.start()
    crowd = []
    for _ in range(CROWD):
        s = target.dial(receive=4096)
        s.sendall(get(b"/endless"))
        crowd.append(s)
    check("slow readers are ended", wait_until(
        lambda: target.metric("openledger_http_requests_active") <= 2.0, 60))
    neighbour.stop = True
    neighbour.join()
    waits = sorted(neighbour.waits)
    check("others go on", neighbour.bad == 0 and waits[int(len(waits) * 0.99)] < 1.0,
          "p99 %.3f s, worst %.3f s" % (waits[int(len(waits) * 0.99)], waits[-1]))
    for s in crowd:
        s.close()
    settled(target, "slow readers")


def vanish(target, path, how):
    crowd = []
    for i in range(CROWD):
        s = target.dial()
        s.sendall(get(path))
        crowd.append(s)
    if path == b"/endless":
        for s in crowd[::7]:
            s.recv(1000)
    for s in crowd:
        if how == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half":
            s.shutdown(socket.SHUT_WR)
        if how != "half":
            s.close()
    if how == "half":
        for s in crowd:
            read_all(s)
            s.close()
    settled(target, "clients that vanish from %s by %s" % (path.decode(), how))


def noise(target):
    """Random bytes, and requests with random changes."""
    generator = random.Random(4)
    seeds = [get(b"/hello"), get(b"/stream"), b"POST /sink HTTP/1.1\r\n" + HEAD +
             b"Content-Length: 3\r\n\r\nabc", b"POST /sink HTTP/1.1\r\n" + HEAD +
             b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
             b"POST /upload HTTP/1.1\r\n" + HEAD + b"Content-Type: multipart/form-data; boundary=B\r\n"
             b"Content-Length: 70\r\n\r\n--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx"]
    bad = 0
    for i in range(NOISE):
        if i % 3 == 0:
            data = generator.randbytes(generator.randrange(1, 2000))
        else:
            data = bytearray(generator.choice(seeds))
            for _ in range(generator.randrange(1, 6)):
                data[generator.randrange(len(data))] = generator.choice(b"\0\r\n :;,%ab0/\x80\xff")
        s = target.dial(source="127.0.%d.%d" % (1 + i // 250 % 250, 1 + i % 250))
        try:
            s.sendall(data)
            if select.select([s], [], [], 0.002)[0]:
                first = s.recv(65536)
                bad += bool(first) and not first.startswith(b"HTTP/1.1 ")
        except OSError:
            pass
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    check("noise gets answers or nothing", bad == 0, bad)
    settled(target, "noise")


def many_requests(target, count):
    """Requests of all kinds over a few connections; each answer is checked."""
    kinds = [(get(b"/hello"), 200, 5), (get(b"/later"), 200, 5), (get(b"/nothing"), 404, None),
             (get(b"/stream"), 200, None), (b"POST /sink HTTP/1.1\r\n" + HEAD +
                                            b"Content-Length: 3000\r\n\r\n" + b"a" * 3000, 200, 13),
             (b"PUT /hello HTTP/1.1\r\n" + HEAD + b"\r\n", 405, None)]
    bad = []

    def one(share):
        s, rest = target.dial(), b""
        for i in range(share):
            request, code, size = kinds[i % len(kinds)] if i % 20 < 6 else kinds[0]
            s.sendall(request)
            got, body, rest = read_answer(s, rest)
            if got != code or (size and len(body) != size):
                bad.append((got, code, body[:60]))
                break
        s.close()
    threads = [threading.Thread(target=one, args=(count // 8,)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check("%d requests" % count, not bad, bad[:3])


def attack(target, requests):
    limits(target)
    connection_flood(target)
    slow_readers(target)
    for path in (b"/endless", b"/park"):
        for how in ("close", "reset", "half"):
            vanish(target, path, how)
    noise(target)
    many_requests(target, requests)
    settled(target, "all of it")


def main():
    global CROWD, CONNECTIONS
    files = raise_files()
    if files < CONNECTIONS + 500:
        CROWD = files - 600
        CONNECTIONS = CROWD + 50
        print("only %d files may be open here: a crowd of %d" % (files, CROWD))
    target = Target()
    # Everything once, so that memory has its size; then all again.
    attack(target, REQUESTS // 10)
    rss, descriptors = target.rss(), target.files()
    attack(target, REQUESTS)
    wait_until(lambda: target.files() <= descriptors)
    check("descriptors", target.files() <= descriptors, "%d, were %d" % (target.files(), descriptors))
    grown = target.rss() - rss
    if target.sanitized:
        print("memory is not compared: the program is built with a sanitizer")
    else:
        check("memory", grown < RSS_GROWTH_MAX, "grew by %d kB" % (grown >> 10))
    print("memory: %d kB, grew by %d kB; %d descriptors" % (target.rss() >> 10, grown >> 10,
                                                            target.files()))
    held = [target.dial() for _ in range(20)]
    for s in held:
        s.sendall(get(b"/park"))
    time.sleep(0.2)
    start = time.monotonic()
    target.process.send_signal(signal.SIGTERM)
    codes = [code_of(read_all(s)) for s in held]
    check("what waits when the server stops gets 503", set(codes) == {503}, codes)
    check("stops in order", target.process.wait(20) == 0 and time.monotonic() - start < 10)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
