#!/usr/bin/env python3
"""A node that trains and is killed, keys that are revoked while they are used, requests sent twice.

    tests/jobs.py PATH-OF-OPENLEDGER

Starts `openledger serve` over a small random model in a temporary home. Prints a line per failure and
"N passed, N failed".
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

from tiny_model import write_model

PROGRAM = os.path.abspath(sys.argv[1])
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail), flush=True)


def run(*args):
    result = subprocess.run([PROGRAM, *args], capture_output=True, timeout=120)
    check("exit of `%s`" % " ".join(args), result.returncode == 0, result.stderr.decode())
    return result.stdout.decode()


class Server:
    def __init__(self):
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--base", "tiny", "--port", "0", "--drain", "1"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = b""
        while True:
            line = self.process.stdout.readline()
            text += line
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                return
            if not line:
                raise SystemExit("the server did not start: %s" % text.decode())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def open(self, method, path, body=None, key=None, headers=None):
        """A connection whose answer's head has come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = dict(headers or {})
        if key:
            headers["Authorization"] = "Bearer " + key
        if isinstance(body, dict):
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        return connection, connection.getresponse()

    def ask(self, *args, **more):
        connection, answer = self.open(*args, **more)
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers

    def ask_json(self, *args, **more):
        status, body, _ = self.ask(*args, **more)
        check("%s %s" % args[:2], status == 200, "%d %s" % (status, body))
        return json.loads(body)


def upload(server, key=None):
    rows = "".join('{"prompt": "%d and %d are", "completion": " %d"}\n' % (i, i, 2 * i)
                   for i in range(40))
    mark = uuid.uuid4().hex
    part = '--%s\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n'
    form = (part % (mark, '"purpose"', "fine-tune") +
            part % (mark, '"file"; filename="sums.jsonl"', rows) + "--%s--\r\n" % mark)
    return server.ask_json("POST", "/v1/files", form, key=key, headers={
        "Content-Type": "multipart/form-data; boundary=" + mark})["id"]


def create(server, file, suffix, steps):
    return server.ask_json("POST", "/v1/fine_tuning/jobs", {
        "model": "tiny", "training_file": file, "suffix": suffix, "seed": 3,
        "openledger": {"rank": 4, "steps": steps, "checkpoint_steps": 10}})["id"]


def await_job(server, job, good, seconds=120):
    until = time.time() + seconds
    while time.time() < until:
        now = server.ask_json("GET", "/v1/fine_tuning/jobs/" + job)
        if good(now) or now["status"] in ("failed", "cancelled", "succeeded"):
            return now
        time.sleep(0.02)
    raise SystemExit("the job does not get on: %s" % now)


def trainers_of(home):
    """Processes that train for this home."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"train-job" in words and any(w.startswith(home.encode()) for w in words):
            found.append(int(pid))
    return found


def check_training_survives_kill(server, home):
    file = upload(server)
    plain = await_job(server, create(server, file, "plain", 120), lambda job: False)
    check("a job succeeds", plain["status"] == "succeeded", plain)
    expected = plain["openledger"]["adapter_sha256"]
    name = plain["fine_tuned_model"]
    answer = server.ask_json("POST", "/v1/completions", {"model": name, "prompt": "2 and 2 are",
                                                         "max_tokens": 4})
    check("its model is served at once", answer["model"] == name, answer)
    killed = create(server, file, "killed", 120)
    now = await_job(server, killed, lambda job: job["openledger"]["step"] >= 25)
    check("it is under way", now["status"] == "running", now)
    trainers = trainers_of(home)
    check("one trainer at work", len(trainers) == 1, trainers)
    with open("/proc/%d/sched" % trainers[0]) as f:
        policy = re.search(r"policy\s*:\s*(\d+)", f.read())
    check("under SCHED_IDLE", policy and policy.group(1) == "5", policy)
    with open("/proc/%d/stat" % trainers[0]) as a, open("/proc/%d/stat" % server.process.pid) as b:
        session = [f.read().rsplit(")", 1)[1].split()[3] for f in (a, b)]
    check("in the server's session", session[0] == session[1], session)
    server.kill()
    until = time.time() + 20
    while trainers_of(home) and time.time() < until:
        time.sleep(0.05)
    check("the trainer ends with its server", not trainers_of(home))
    server.start()
    after = await_job(server, killed, lambda job: False)
    check("the same bits after kill -9", after["openledger"]["adapter_sha256"] == expected, after)
    check("the same tokens", after["trained_tokens"] == plain["trained_tokens"], after)
    events = server.ask_json("GET", "/v1/fine_tuning/jobs/%s/events?limit=100" % killed)["data"]
    check("it went on from a checkpoint", any("goes on after step" in e["message"] for e in events))
    cancelled = create(server, file, "cancelled", 100000)
    await_job(server, cancelled, lambda job: job["openledger"]["step"] > 0)
    shown = server.ask_json("POST", "/v1/fine_tuning/jobs/%s/cancel" % cancelled)
    check("cancel shows", shown["status"] == "cancelled", shown)
    until = time.time() + 10
    while trainers_of(home) and time.time() < until:
        time.sleep(0.05)
    check("cancel ends the process", not trainers_of(home))


def check_sent_twice(server):
    def ask(key, prompt, stream=False):
        return server.ask("POST", "/v1/completions", {
            "model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 1,
            "stream": stream}, headers={"Idempotency-Key": key})
    for stream in (False, True):
        key = "key-%s" % stream
        first = ask(key, "once", stream)
        check("the first time", first[0] == 200 and "idempotent-replayed" not in first[2], first)
        again = ask(key, "once", stream)
        check("the same answer", again[:2] == first[:2], "%s %s" % (first[1], again[1]))
        check("marked as such", again[2].get("idempotent-replayed") == "true", again[2])
    check("another request", ask("key-False", "twice")[0] == 422)
    server.kill()
    server.start()
    after = ask("key-True", "once", True)
    check("the same answer after kill -9", after[:2] == again[:2], after)


def check_revoked_while_used(server):
    """From the first key on, nobody is local any more; so this comes last."""
    token = run("keys", "add", "--name", "one").strip()
    made = json.loads(run("keys", "list", "--json"))["data"][0]["id"]
    until = time.time() + 5
    while server.ask("GET", "/v1/models")[0] == 200 and time.time() < until:
        time.sleep(0.05)
    check("a key is needed now", server.ask("GET", "/v1/models")[0] == 401)
    check("and does", server.ask("GET", "/v1/models", key=token)[0] == 200)
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    status, body, _ = server.ask("GET", "/v1/models", key=wrong)
    check("a typing error is told", status == 401 and b"checksum" in body, body)
    connection, answer = server.open("POST", "/v1/completions", {
        "model": "tiny", "prompt": "on and on", "max_tokens": 4000, "stream": True,
        "logit_bias": {"263": -100}}, key=token)
    check("a stream begins", answer.status == 200 and answer.readline().startswith(b"data:"))
    start = time.time()
    run("keys", "revoke", made)
    revoked = time.time()
    try:
        rest = answer.read()
    except (http.client.HTTPException, OSError, socket.timeout) as error:
        rest = str(error).encode()
    took = time.time() - revoked
    check("revoking ends the stream", took < 2, "%.1f s after %.1f s" % (took, revoked - start))
    check("not as if it were whole", b"[DONE]" not in rest or b"error" in rest, rest[-300:])
    connection.close()
    until = revoked + 1
    while server.ask("GET", "/v1/models", key=token)[0] != 401 and time.time() < until:
        time.sleep(0.02)
    dead = server.ask("GET", "/v1/models", key=token)
    check("and the key is dead within a second", dead[0] == 401, dead)
    other = run("keys", "add", "--requests-per-minute", "2", "-s", "models").strip()
    until = time.time() + 10
    while server.ask("GET", "/v1/files", key=other)[0] == 401 and time.time() < until:
        time.sleep(0.05)  # it is noticed within half a second; a refusal costs nothing of its limit
    statuses = [server.ask("GET", "/v1/models", key=other)[0] for _ in range(3)]
    check("requests per minute", statuses == [200, 200, 429], statuses)
    check("scopes", server.ask("GET", "/v1/files", key=other)[0] == 403)


def main():
    home = tempfile.mkdtemp(prefix="openledger-jobs-")
    os.environ["OPENLEDGER_HOME"] = home
    for name in ("OPENLEDGER_ISA", "OPENLEDGER_THREADS"):
        os.environ.pop(name, None)
    start = time.time()
    server = None
    try:
        write_model(os.path.join(home, "source"))
        run("import", os.path.join(home, "source"), "--name", "tiny")
        server = Server()
        check_training_survives_kill(server, home)
        check_sent_twice(server)
        check_revoked_while_used(server)
        check("an orderly end", server.stop() == 0)
        server = None
    finally:
        if server:
            server.process.send_signal(signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)
    print("%d passed, %d failed in %.1f s" % (passed, failed, time.time() - start))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
