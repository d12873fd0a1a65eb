#!/usr/bin/env python3
"""A serving node and its money, as a client, an auditor and a power cut meet them.

    tests/economy.py PATH-OF-OPENLEDGER

Every answer is paid, logged and verified with the program's own `verify`; what the public log says
is read here from its files, byte by byte, and must agree with the balances. Then the node is killed
under load, again and again (OL_TEST_SLOW=1: 200 times). Prints a line per failed check and
"N passed, N failed".
"""
import base64
import http.client
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_model  # noqa: E402

PROGRAM = os.path.abspath(sys.argv[1])
KILLS = 200 if os.environ.get("OL_TEST_SLOW") == "1" else 4
GRANT = 10**15
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def run(*args, expect=0):
    result = subprocess.run([PROGRAM, *args], capture_output=True, timeout=300, text=True)
    check("exit of `%s`" % " ".join(args), result.returncode == expect,
          "%d instead of %d: %s%s" % (result.returncode, expect, result.stdout, result.stderr))
    return result.stdout + result.stderr


class Node:
    def __init__(self):
        self.process = subprocess.Popen([PROGRAM, "serve", "--port", "0", "--threads", "1"],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        check("it serves", "http://" in line, line + (self.process.stderr.read() if not line else ""))
        self.port = int(line.rsplit(":", 1)[1])

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check("it ends when asked to", self.process.wait(timeout=60) == 0)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def credit(self):
        return int(self.ask("GET", "/v1/account")[1]["test_credit_nano"])


def chat(text, **more):
    return {"model": "tiny", "max_tokens": 12, "temperature": 1.0,
            "messages": [{"role": "user", "content": text}], **more}


# ---- the log as anybody reads it: c2sp.org/tlog-tiles, docs/FORMATS.md ----

def log_entries(node):
    status, checkpoint = node.ask("GET", "/log/checkpoint")
    if status != 200:
        return []
    size = int(checkpoint.decode().split("\n")[1])
    entries = []
    for tile in range((size + 255) // 256):
        width = min(256, size - 256 * tile)
        name = "/log/tile/entries/%03d" % tile + ("" if width == 256 else ".p/%d" % width)
        status, bundle = node.ask("GET", name)
        check("the log's file " + name, status == 200, str(status))
        at = 0
        while at < len(bundle):
            (length,) = struct.unpack_from(">H", bundle, at)
            entries.append(bundle[at + 2:at + 2 + length])
            at += 2 + length
    check("the log has all its entries", len(entries) == size)
    return entries


def receipts(entries):
    """Price and parts of every receipt."""
    found = []
    for entry in entries:
        magic, version, kind = struct.unpack_from("<4sHH", entry)
        if magic == b"OLEV" and kind == 5:
            price, currency, parts = struct.unpack_from("<QII", entry, 488)
            amounts = [struct.unpack_from("<Q", entry, 536 + 64 * i + 48)[0] for i in range(parts)]
            found.append((price, amounts))
    return found


def wait_for_log(node, count):
    for _ in range(200):
        status, body = node.ask("GET", "/v1/log")
        if status == 200 and body["size"] >= count:
            return
        time.sleep(0.02)


# ---- scenes ----

def verify(answer, expect=0, says="same bits"):
    with open("answer.json", "w") as out:
        json.dump(answer, out)
    text = run("verify", "answer.json", expect=expect)
    check("verify says '%s'" % says, says in text, text)
    return text


def free_answers(node):
    status, answer = node.ask("POST", "/v1/chat/completions", chat("Hello"))
    check("an answer without a price", status == 200, str(answer))
    check("is free", answer["openledger"]["receipt"]["price_nano"] == "0")
    proof = node.ask("GET", "/v1/receipts/%s/proof" % answer["openledger"]["receipt"]["id"])
    check("its proof", proof[0] == 200 and proof[1].startswith(b"c2sp.org/tlog-proof@v1"))
    check("all is computed again", "7 of 8" in verify(answer))
    check("no such receipt", node.ask("GET", "/v1/receipts/" + "00" * 32)[0] == 404)
    check("no id of a receipt", node.ask("GET", "/v1/receipts/xyz")[0] == 400)
    check("only the log's files", node.ask("GET", "/log/../signer/node.key")[0] in (400, 404))
    check("only the log's names", node.ask("GET", "/log/lock")[0] == 404)


SPLIT = {"base": {"ppm": 200000, "account": "0x" + "00" * 19 + "a1"},
         "builder": {"ppm": 150000, "account": "0x" + "00" * 19 + "b2"},
         "data": {"ppm": 500000}, "stakers": {"ppm": 50000, "account": "0x" + "00" * 19 + "c3"},
         "platform": {"ppm": 100000, "account": "platform"}}
LISTING = {"model": "tiny", "prompt_nano_per_1000": "1000000",
           "completion_nano_per_1000": "7000001", "split": SPLIT}


def publish(node):
    split, listing = SPLIT, LISTING
    for change, words in [({"model": "none"}, "no model"), ({"split": 3}, "split is missing"),
                          ({"prompt_nano_per_1000": 5}, "strings of digits"),
                          ({"split": {**split, "data": {"ppm": 1}}}, "1,000,000 parts"),
                          ({"split": {**split, "base": {"ppm": 200000}}}, "has no account")]:
        status, answer = node.ask("POST", "/v1/listings", {**listing, **change})
        check("a listing with %s" % change, status in (400, 404) and words in str(answer), str(answer))
    status, answer = node.ask("POST", "/v1/listings", listing)
    check("a listing", status == 200 and answer["version"] == 1, str(answer))
    status, answer = node.ask("POST", "/v1/chat/completions", chat("Hello"))
    check("who has nothing is told what is missing", status == 402 and
          answer["error"]["code"] == "insufficient_funds" and "OPEN" in answer["error"]["message"],
          str(answer))
    status, answer = node.ask("POST", "/v1/grants", {"account": "local", "nano": str(GRANT)})
    check("a grant", status == 200 and answer["test_credit_nano"] == str(GRANT), str(answer))


def paid_answers(node):
    before, paid = node.credit(), 0
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
              "required": ["a"], "additionalProperties": False}
    bodies = [("/v1/chat/completions", chat("One")),
              ("/v1/chat/completions", chat("Two", n=3, seed=5, stop=["a", "bc"])),
              ("/v1/chat/completions", chat("Three", logit_bias={"65": 4, "70": -100}, top_p=0.5)),
              ("/v1/chat/completions", chat("Four", max_tokens=40, response_format={
                  "type": "json_schema", "json_schema": {"name": "x", "schema": schema}})),
              ("/v1/completions", {"model": "tiny", "prompt": ["Five", "Six"], "max_tokens": 7,
                                   "temperature": 0}),
              ("/v1/embeddings", {"model": "tiny", "input": ["Seven", "Eight"]})]
    for path, body in bodies:
        status, answer = node.ask("POST", path, body)
        check("a paid answer of " + path, status == 200, str(answer))
        receipt = answer["openledger"]["receipt"]
        usage = answer["usage"]
        due = -(-(usage["prompt_tokens"] * 1000000 +
                  usage.get("completion_tokens", 0) * 7000001) // 1000)
        check("costs what was listed", int(receipt["price_nano"]) == due, str(receipt["price_nano"]))
        paid += due
        wait_for_log(node, receipt["log_index"] + 1)
        check("all is computed again", "7 of 8" in verify(answer))
    check("the account paid that and no more", before - node.credit() == paid)
    published, again = node.ask("POST", "/v1/listings", LISTING)
    check("a price may change", published == 200 and again["version"] == 2, str(again))
    verify(answer)  # what was agreed before stays true
    status, answer = node.ask("POST", "/v1/embeddings", bodies[-1][1])
    wait_for_log(node, answer["openledger"]["receipt"]["log_index"] + 1)
    receipt = answer["openledger"]["receipt"]
    check("and is in force at once", "7 of 8" in verify(answer))
    answer["openledger"]["opening"]["choices"][1]["tokens"][3] ^= 1
    verify(answer, 2, "another answer")
    status, shown = node.ask("GET", "/v1/receipts/" + receipt["id"])
    check("the split is shown", status == 200 and sum(int(p["nano"]) for p in shown["split"]) ==
          int(receipt["price_nano"]) and base64.b64decode(shown["bytes"]), str(shown))


def retries_and_leavers(node):
    before = node.credit()
    answers = [node.ask("POST", "/v1/chat/completions", chat("Again"), {"Idempotency-Key": "k1"})
               for _ in range(3)]
    check("a retry has the same answer", all(a == answers[0] for a in answers[1:]), str(answers))
    price = int(answers[0][1]["openledger"]["receipt"]["price_nano"])
    check("and is charged once", before - node.credit() == price)
    before = node.credit()
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    connection.request("POST", "/v1/chat/completions",
                       json.dumps(chat("A long one", stream=True, max_tokens=3000,
                                       logit_bias={"263": -100})),
                       {"Content-Type": "application/json"})
    stream = connection.getresponse()
    for _ in range(6):
        stream.readline()
    connection.sock.close()
    stream.close()
    connection.close()
    for _ in range(300):
        if 0 < before - node.credit() < 3000 * 7000:
            break
        time.sleep(0.02)
    spent = before - node.credit()
    check("who leaves pays for what he got", 0 < spent < 3000 * 7000, str(spent))


def under_load(node, acknowledged, stop):
    dice = random.Random(node.port)
    while not stop.is_set():
        try:
            status, answer = node.ask("POST", "/v1/chat/completions",
                                      chat("Load %d" % dice.randrange(10**6),
                                           max_tokens=dice.randrange(1, 20)))
            if status == 200:
                receipt = answer["openledger"]["receipt"]
                acknowledged.append((receipt["id"], int(receipt["price_nano"])))
        except (OSError, http.client.HTTPException, KeyError, ValueError):
            return


def power_cuts(node):
    acknowledged, dice = [], random.Random(6)
    for kill in range(KILLS):
        stop = threading.Event()
        threads = [threading.Thread(target=under_load, args=(node, acknowledged, stop))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(dice.uniform(0.05, 0.5))
        node.kill()
        stop.set()
        for thread in threads:
            thread.join()
        node = Node()
        for receipt, _ in acknowledged[-20:]:
            check("a receipt that was told", node.ask("GET", "/v1/receipts/" + receipt)[0] == 200)
        status, _ = node.ask("POST", "/v1/chat/completions", chat("After the cut"))
        check("it answers after a cut", status == 200, str(status))
    status, answer = node.ask("POST", "/v1/chat/completions", chat("The last one"))
    wait_for_log(node, answer["openledger"]["receipt"]["log_index"] + 1)
    found = receipts(log_entries(node))
    check("every part adds up", all(sum(parts) == price for price, parts in found))
    check("nothing is held any more, nothing is lost",
          node.credit() == GRANT - sum(price for price, _ in found),
          "%d, %d" % (node.credit(), GRANT - sum(price for price, _ in found)))
    check("something was told under load", len(acknowledged) > KILLS)
    for receipt, _ in acknowledged:
        if node.ask("GET", "/v1/receipts/" + receipt)[0] != 200:
            check("every receipt that was told is there", False, receipt)
    return node


def main():
    with tempfile.TemporaryDirectory(prefix="openledger-economy-") as folder:
        os.chdir(folder)
        os.environ["OPENLEDGER_HOME"] = folder + "/home"
        os.environ["OPENLEDGER_THREADS"] = "1"
        tiny_model.write_model("hf")
        run("import", "hf", "--name", "tiny")
        node = Node()
        free_answers(node)
        publish(node)
        paid_answers(node)
        retries_and_leavers(node)
        node = power_cuts(node)
        node.stop()
        os.chdir("/")
    print("%d passed, %d failed" % (passed, failed))
    return failed > 0


sys.exit(main())
