#!/usr/bin/env python3
"""Public logs, witnesses and accounts as their users meet them.

    tests/log.py PATH-OF-OPENLEDGER

A log of its own, written here from the C2SP specifications (tlog-tiles, tlog-checkpoint,
signed-note) with Ed25519 from RFC 8032, shares no code with the program that must follow it. Prints
a line per failed check and "N passed, N failed".
"""
import base64
import hashlib
import http.server
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

PROGRAM = os.path.abspath(sys.argv[1])
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def run(*args, env=None, expect=0):
    result = subprocess.run([PROGRAM, *args], capture_output=True, timeout=300,
                            env={**os.environ, **(env or {})})
    out, err = result.stdout.decode(), result.stderr.decode()
    check("exit of `%s`" % " ".join(args), result.returncode == expect,
          "%d instead of %d: %s%s" % (result.returncode, expect, out, err))
    return out, err


# ---- Ed25519, RFC 8032 section 6, shortened ----

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x & 1:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = base_point()


def compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


class Key:
    def __init__(self, seed, name, kind=1):
        digest = hashlib.sha512(seed).digest()
        self.scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
        self.prefix = digest[32:]
        self.public = compress(multiply(self.scalar, BASE))
        self.name = name
        self.id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + self.public).digest()[:4]
        self.text = "%s+%s+%s" % (name, self.id.hex(),
                                  base64.b64encode(bytes([kind]) + self.public).decode())

    def sign(self, message):
        r = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little") % L
        point = compress(multiply(r, BASE))
        k = int.from_bytes(hashlib.sha512(point + self.public + message).digest(), "little") % L
        return point + ((r + k * self.scalar) % L).to_bytes(32, "little")


# ---- A log, by the specifications ----

def sha(data):
    return hashlib.sha256(data).digest()


def tree_hash(leaves):
    """MTH of RFC 6962 over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha(b"")
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def path(index, leaves):
    """PATH of RFC 6962."""
    if len(leaves) < 2:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if index < k:
        return path(index, leaves[:k]) + [tree_hash(leaves[k:])]
    return path(index - k, leaves[k:]) + [tree_hash(leaves[:k])]


def subproof(m, leaves, whole=True):
    """SUBPROOF of RFC 6962."""
    if m == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return subproof(m, leaves[:k], whole) + [tree_hash(leaves[k:])]
    return subproof(m - k, leaves[k:], False) + [tree_hash(leaves[:k])]


def b64(data):
    return base64.b64encode(data).decode()


class Log:
    def __init__(self, folder, key):
        self.folder, self.key, self.entries, self.leaves = folder, key, [], []

    def grow(self, size, twin=0, fork=10**9):
        for i in range(len(self.entries), size):
            self.entries.append(b"entry %d of %d" % (i, twin if i >= fork else 0))
            self.leaves.append(sha(b"\0" + self.entries[-1]))
        self.write()

    def name(self, level, index, width):
        digits = "%03d" % (index % 1000)
        while index >= 1000:
            index //= 1000
            digits = "x%03d/" % (index % 1000) + digits
        return "tile/%s/%s%s" % (level, digits, ".p/%d" % width if width < 256 else "")

    def put(self, name, data):
        where = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "wb") as file:
            file.write(data)

    def write(self):
        level, hashes = 0, self.leaves
        while hashes:
            for first in range(0, len(hashes), 256):
                part = hashes[first:first + 256]
                self.put(self.name(level, first // 256, len(part)), b"".join(part))
                if level == 0:
                    bundle = b"".join(struct.pack(">H", len(e)) + e
                                      for e in self.entries[first:first + 256])
                    self.put(self.name("entries", first // 256, len(part)), bundle)
            hashes = [tree_hash(hashes[i:i + 256]) for i in range(0, len(hashes) - 255, 256)]
            level += 1
        self.put("checkpoint", self.checkpoint())

    def checkpoint(self, key=None):
        key = key or self.key
        text = "%s\n%d\n%s\n" % (self.key.name, len(self.leaves), b64(tree_hash(self.leaves)))
        return (text + "\n\u2014 %s %s\n"
                % (key.name, b64(key.id + key.sign(text.encode())))).encode()

    def proof(self, index):
        lines = ["c2sp.org/tlog-proof@v1", "index %d" % index]
        lines += [b64(h) for h in path(index, self.leaves)]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint()


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, folder):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, directory=folder, **kwargs)

            def log_message(self, *args):
                pass
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


def monitor(place, key, state, expect, finding, words=""):
    out, err = run("log", "monitor", place, "--key", key.text, "--state", state, "--once", "--json",
                   expect=expect)
    found = json.loads(out) if out else {}
    check("finding %s" % finding, found.get("finding") == finding and words in found.get("text", ""),
          out + err)
    return found


def test_monitor(work):
    key = Key(b"\1" * 32, "example.com/log")
    honest, evil = Log(os.path.join(work, "a"), key), Log(os.path.join(work, "b"), key)
    state = os.path.join(work, "state")
    honest.grow(300)
    server, twin = Server(honest.folder), Server(evil.folder)
    monitor(server.url, key, state, 0, "grew", "300 new entries")
    monitor(server.url, key, state, 0, "same")
    monitor(honest.folder, key, state, 0, "same")  # the same log, from its folder
    honest.grow(1000)
    monitor(server.url, key, state, 0, "grew", "700 new entries, 1000 in all")
    evil.grow(1000, twin=1, fork=500)
    found = monitor(twin.url, key, state, 1, "forked", "two different histories of 1000")
    evil.grow(1100, twin=1, fork=500)
    monitor(twin.url, key, state, 1, "forked", "does not continue")
    for name in ("known", "shown", "words"):
        check("evidence " + name, os.path.getsize(os.path.join(found["evidence"], name)) > 0)
    stranger = Key(b"\2" * 32, "example.com/log")
    honest.put("checkpoint", honest.checkpoint(stranger))
    monitor(server.url, key, state, 1, "unsigned")
    honest.write()
    honest.grow(1200)
    where = os.path.join(honest.folder, honest.name("entries", 4, 176))
    with open(where, "rb") as file:
        good = file.read()
    honest.put(honest.name("entries", 4, 176), good[:20] + b"!" + good[21:])
    monitor(server.url, key, state, 1, "wrong-files", "entry 1025 does not hash")
    honest.write()
    monitor(server.url, key, state, 0, "grew")
    honest.grow(1201)
    os.remove(os.path.join(honest.folder, honest.name("entries", 4, 177)))
    monitor(server.url, key, state, 1, "truncated")
    out, err = run("log", "monitor", "http://127.0.0.1:1/", "--key", key.text, "--state", state,
                   "--once", expect=1)
    check("nobody answers", "no answer" in out, out + err)
    run("log", "monitor", server.url, "--state", state, "--once", expect=1)
    server.shutdown()
    twin.shutdown()


def test_verify(work):
    key = Key(b"\3" * 32, "example.com/proofs")
    log = Log(os.path.join(work, "c"), key)
    log.grow(77)
    entry, proof = os.path.join(work, "entry"), os.path.join(work, "entry.tlog-proof")
    keyfile = os.path.join(work, "log.key")
    with open(keyfile, "w") as file:
        file.write(key.text + "\n")
    for index in (0, 1, 63, 64, 76):
        with open(entry, "wb") as file:
            file.write(log.entries[index])
        with open(proof, "wb") as file:
            file.write(log.proof(index))
        out, _ = run("log", "verify", proof, "--key", keyfile, "--entry", entry, "--json")
        found = json.loads(out)
        check("proof of %d" % index, found["valid"] and found["index"] == index)
    with open(entry, "ab") as file:
        file.write(b"x")
    out, err = run("log", "verify", proof, "--key", keyfile, "--entry", entry, expect=1)
    check("another entry", "is not the one" in err, err)
    out, err = run("log", "verify", proof, "--key", key.text, "--leaf", log.leaves[76].hex(),
                   "--quorum", "1", expect=1)
    check("a quorum that is not there", "asked for" in err, err)


def post(url, body):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
            return answer.status, answer.headers.get("Content-Type"), answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers.get("Content-Type"), answer.read().decode()


def request(log, old):
    lines = ["old %d" % old]
    if 0 < old < len(log.leaves):
        lines += [b64(h) for h in subproof(old, log.leaves)]
    return ("\n".join(lines) + "\n\n").encode() + log.checkpoint()


def test_witness(work):
    key = Key(b"\4" * 32, "example.com/witnessed")
    honest, evil = Log(os.path.join(work, "d"), key), Log(os.path.join(work, "e"), key)
    folder = os.path.join(work, "witness")

    def start():
        process = subprocess.Popen([PROGRAM, "witness", "--name", "w.example/1", "--folder", folder,
                                    "--log", key.text, "--port", "0"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        url = process.stdout.readline().decode().split()[1]
        return process, url, process.stdout.readline().decode().strip()

    process, url, vkey = start()
    add = url + "/add-checkpoint"
    honest.grow(10)
    status, kind, text = post(add, request(honest, 0))
    check("first cosignature", status == 200 and text.startswith("\u2014 w.example/1 "), text)
    status, kind, text = post(add, request(honest, 0))
    check("409 tells the size", (status, kind, text) == (409, "text/x.tlog.size", "10\n"),
          repr((status, kind, text)))
    honest.grow(300)
    status, _, line = post(add, request(honest, 10))
    check("it grew", status == 200, line)
    evil.grow(400, twin=1, fork=5)
    check("a fork", post(add, request(evil, 300))[0] == 422)
    process.send_signal(signal.SIGTERM)
    check("ends by itself", process.wait(timeout=20) == 0)
    process, url, again = start()
    add = url + "/add-checkpoint"
    check("the same key", vkey == again)
    check("it remembers", post(add, request(evil, 300))[0] == 422)
    check("nonsense", post(add, b"nonsense")[0] == 400)
    other = Log(os.path.join(work, "f"), Key(b"\5" * 32, "example.com/unknown"))
    other.grow(3)
    check("an unknown log", post(add, request(other, 0))[0] == 404)
    origin = hashlib.sha256(key.name.encode()).hexdigest()
    with urllib.request.urlopen("%s/%s/checkpoint" % (url, origin)) as answer:
        served = answer.read()
    check("what it cosigned", served.startswith(honest.checkpoint()) and
          served.decode().endswith(line), served)
    # Checkpoint and cosignature travel in a proof, and count.
    proof, leaf = os.path.join(work, "w.tlog-proof"), honest.leaves[123].hex()
    with open(proof, "wb") as file:
        file.write(honest.proof(123) + line.encode())
    out, _ = run("log", "verify", proof, "--key", key.text, "--leaf", leaf, "--witness", vkey,
                 "--quorum", "1", "--json")
    check("a witnessed proof", json.loads(out)["cosigned"] == 1, out)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)


def test_accounts(work):
    env = {"OPENLEDGER_HOME": os.path.join(work, "home"), "OPENLEDGER_PASSPHRASE": "one"}
    other = {"OPENLEDGER_HOME": os.path.join(work, "home2"), "OPENLEDGER_PASSPHRASE": "one"}
    out, _ = run("account", "list", env=env)
    check("none yet", "No accounts yet" in out)
    address = run("account", "new", "--light", env=env)[0].strip()
    check("an address", len(address) == 42 and address.startswith("0x"), address)
    out, _ = run("account", "list", "--json", env=env)
    check("listed", json.loads(out)["data"] == [{"object": "account", "address": address}], out)
    out, _ = run("account", "show", address, env=env)
    where = out.split("key file: ")[1].strip()
    check("modes", os.stat(where).st_mode & 0o777 == 0o600 and
          os.stat(os.path.dirname(where)).st_mode & 0o777 == 0o700)
    exported, _ = run("account", "export", address, env=env)
    check("a key file", json.loads(exported)["version"] == 3 and json.loads(exported)["address"]
          == address[2:].lower())
    secret, _ = run("account", "export", address, "--private-key", env=env)
    check("a private key", len(secret) == 67)
    _, err = run("account", "export", address, "--private-key", expect=1,
                 env={**env, "OPENLEDGER_PASSPHRASE": "two"})
    check("a wrong passphrase", "passphrase is wrong" in err, err)
    for number, text in enumerate((exported, secret)):
        source = os.path.join(work, "import%d" % number)
        home = {**other, "OPENLEDGER_HOME": other["OPENLEDGER_HOME"] + str(number)}
        with open(source, "w") as file:
            file.write(text)
        out, _ = run("account", "import", source, "--light", env=home)
        check("imported", out.strip() == address, out)
        _, err = run("account", "import", source, "--light", env=home, expect=1)
        check("twice", "is here already" in err, err)
    phrase = os.path.join(work, "phrase")
    with open(phrase, "w") as file:
        file.write("one\n")
    _, err = run("account", "export", address, "--private-key", "--passphrase-file", phrase, env=env,
                 expect=1)
    check("a public passphrase", "others may read it" in err, err)
    os.chmod(phrase, 0o600)
    out, _ = run("account", "export", address, "--private-key", "--passphrase-file", phrase, env=env)
    check("a passphrase from a file", out == secret)
    _, err = run("account", "show", address[:-1] + ("0" if address[-1] != "0" else "1"), env=env,
                 expect=1)
    check("a mistyped account", "account" in err, err)


class Signer:
    """`openledger signer` as the server starts it: a socket for messages, nothing else."""

    def __init__(self, folder):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        self.process = subprocess.Popen([PROGRAM, "signer", folder, str(theirs.fileno())],
                                        pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL,
                                        # A leak check at exit needs system calls it has given up.
                                        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        theirs.close()
        ours.settimeout(20)

    def ask(self, message):
        """Status and answer; None: it is dead."""
        try:
            self.socket.send(message)
            answer = self.socket.recv(1 << 16)
        except OSError:
            return None
        return (answer[0], answer[1:]) if answer else None

    def checkpoint(self, log, size, old, key):
        leaves = log.leaves[:size]
        proof = subproof(old, leaves) if 0 < old < size else []
        text = ("%s\n%d\n%s\n" % (key.name, size, b64(tree_hash(leaves)))).encode()
        return self.ask(bytes([2, len(proof)]) + b"".join(proof) + text), text

    def end(self):
        self.socket.close()
        return self.process.wait(timeout=20)


def test_signer(work):
    seed, folder = b"\7" * 32, os.path.join(work, "signer")
    key = Key(seed, "example.com/signed")
    honest, evil = Log(os.path.join(work, "g"), key), Log(os.path.join(work, "h"), key)
    honest.grow(50)
    evil.grow(50, twin=1, fork=5)
    os.mkdir(folder, 0o700)
    record = struct.pack("<8sQQ32s32s", b"OLSIGNER", 0, 0, sha(b""), key.public)
    for name, data in (("node.key", ("PRIVATE+KEY+%s+%s+%s\n" % (
            key.name, key.id.hex(), b64(b"\1" + seed))).encode()),
            ("node.state", (record + sha(record)).ljust(8192, b"\0"))):
        where = os.path.join(folder, name)
        with open(where, "wb") as file:
            file.write(data)
        os.chmod(where, 0o600)
    signer = Signer(folder)
    status, answer = signer.ask(b"\1")
    check("hello", status == 0 and answer[40:] == key.text.encode(), answer)
    (status, answer), text = signer.checkpoint(honest, 20, 0, key)
    check("a checkpoint", (status, answer) == (0, key.sign(text)), answer)
    (status, answer), text = signer.checkpoint(honest, 30, 20, key)
    check("the next", (status, answer) == (0, key.sign(text)), answer)
    (status, answer), _ = signer.checkpoint(evil, 40, 30, key)
    check("a fork", status == 1 and b"does not continue" in answer, answer)
    status, answer = signer.ask(b"\3" + text)
    check("a checkpoint as an event", status == 1 and b"no event" in answer, answer)
    check("ends with its server", signer.end() == 0)
    signer = Signer(folder)
    (status, answer), _ = signer.checkpoint(evil, 30, 30, key)
    check("over a restart", status == 1, answer)
    (status, answer), _ = signer.checkpoint(honest, 29, 30, key)
    check("rolled back", status == 1 and b"signed before" in answer, answer)
    with open("/proc/%d/status" % signer.process.pid) as file:
        check("locked in", "Seccomp:\t2\n" in file.read())
    signer.process.kill()
    signer.process.wait()
    check("its death is seen", signer.ask(b"\1") is None)


with tempfile.TemporaryDirectory() as place:
    for test in (test_monitor, test_verify, test_witness, test_accounts, test_signer):
        test(place)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
