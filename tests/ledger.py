#!/usr/bin/env python3
"""`openledger ledger` over the books of a node that really served: what they say, that damage of
every derived file is found and mended, and that a killed node's books still agree.

    tests/ledger.py PATH-OF-OPENLEDGER

What the statements and events say is added up here again. Prints a line per failed check and
"N passed, N failed".
"""
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_model  # noqa: E402

PROGRAM = os.path.abspath(sys.argv[1])
GRANT = 10**12
ASKED = 7
PARTIES = {"base": 200000, "builder": 300000, "data": 400000, "platform": 100000}
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def ledger(*args, expect=0):
    result = subprocess.run([PROGRAM, "ledger", *args], capture_output=True, timeout=300, text=True)
    check("exit of `ledger %s`" % " ".join(args), result.returncode == expect,
          "%d instead of %d: %s%s" % (result.returncode, expect, result.stdout, result.stderr))
    return result.stdout, result.stderr


def ledger_json(*args, expect=0):
    return json.loads(ledger(*args, "--json", expect=expect)[0])


class Node:
    def __init__(self):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--port", "0", "--threads", "1", "--log-origin", "example.com/books"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        check("it serves", "http://" in line, line + (self.process.stderr.read() if not line else ""))
        self.port = int(line.rsplit(":", 1)[1])

    def ask(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        check(path, answer.status == 200, text)
        return json.loads(text)

    def answer(self):
        return self.ask("/v1/completions", {"model": "tiny", "prompt": "hello", "max_tokens": 3})

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check("it ends when asked to", self.process.wait(timeout=60) == 0)

    def kill(self):
        self.process.kill()
        self.process.wait()


def all_ok(name):
    result = ledger_json("check")
    check(name, result["ok"] and all(row["ok"] for row in result["checks"]), result)
    return {row["name"]: row["text"] for row in result["checks"]}


def one_not_ok(name, row_name, words):
    result = ledger_json("check", expect=1)
    wrong = {row["name"]: row["text"] for row in result["checks"] if not row["ok"]}
    check(name, not result["ok"] and list(wrong) == [row_name] and words in wrong[row_name], result)
    table = ledger("check", expect=1)[0]
    check(name + ", as a table", "%-11s NOT OK" % row_name in table, table)


def check_empty():
    for command in (["check"], ["rebuild"], ["show"], ["statement", "platform"], ["event", "0"]):
        out, err = ledger(*command, expect=1)
        check("no ledger: " + command[0], "openledger serve" in err and not out, err)


def statement_of(account, *args):
    """All pages of an account's statement."""
    lines, before = [], []
    while True:
        page = ledger_json("statement", account, "--limit", "3", *before, *args)
        lines += page["data"]
        if not page["has_more"]:
            return page, lines
        check("a page is full", len(page["data"]) == 3, page)
        before = ["--before", str(page["data"][-1]["number"])]


def check_statement(account, *args):
    page, lines = statement_of(account, *args)
    balance = 0
    for line in lines:
        if line["kind"] != "posted":
            continue
        balance += int(line["amount"]) * ((line["credit"] == page["account"]) -
                                          (line["debit"] == page["account"]))
    check("the lines of %s add up" % account, balance == int(page["balance"]), page)
    numbers = [line["number"] for line in lines]
    check("newest first", numbers == sorted(numbers, reverse=True), numbers)
    return balance, lines


def check_books():
    shown = ledger_json("show")
    check("show", shown["events"] == ASKED + 2 and shown["kinds"]["receipt"] == ASKED and
          shown["kinds"]["grant"] == 1 and shown["kinds"]["listing"] == 1 and
          shown["checkpoint"]["origin"] == "example.com/books" and
          shown["checkpoint"]["size"] == shown["events"], shown)
    check("show in words", "example.com/books+" in ledger("show")[0])
    local, lines = check_statement("local", "--credit")
    spent = GRANT - local
    check("it was paid for", 0 < spent < GRANT and
          sum(line["kind"] == "reserved" for line in lines) == ASKED, lines)
    paid = sum(check_statement(account, "--credit")[0] for account in
               ("0x" + "11" * 20, "0x" + "22" * 20, "platform"))
    pots = {line["credit"] for line in check_statement("clearing", "--credit")[1]
            if line["credit"].startswith("pot:")}
    paid += sum(check_statement(pot, "--credit")[0] for pot in pots)
    check("what was paid is what was spent", paid == spent, (paid, spent))
    check("clearing is empty", check_statement("clearing", "--credit")[0] == 0)
    check("grants", check_statement("grants", "--credit")[0] == -GRANT)
    check("a statement in words", "test credit" in ledger("statement", "local", "--credit")[0])
    for account, words in (("nobody", "is no account"), ("0x12", ""), ("pot:zz", "is no account")):
        check("refused: " + account, words in ledger("statement", account, expect=1)[1])
    for index in range(shown["events"]):
        event = ledger_json("event", str(index))
        raw = bytes.fromhex(event["bytes"])
        check("the id of event %d" % index,
              hashlib.sha256(b"\0" + raw).hexdigest() == event["id"], event)
        again = ledger_json("event", event["id"], "--out", "event.bin")
        with open("event.bin", "rb") as file:
            check("the same by its id", again == event and file.read() == raw)
        if event["kind"] == "receipt":
            prices = [int(t["amount"]) for t in event["transfers"] if t["credit"] == "clearing"]
            parts = [int(t["amount"]) for t in event["transfers"] if t["debit"] == "clearing"]
            check("the parts are the price", len(prices) == 1 and prices[0] == sum(parts), event)
    check("no such event", "no such event" in ledger("event", str(shown["events"]), expect=1)[1])
    check("no event at all", "is no event" in ledger("event", "x", expect=1)[1])


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def check_damage(home):
    folder = os.path.join(home, "ledger")
    log = os.path.join(folder, "log")
    tile = "tile/0/000.p/%d" % (ASKED + 2)
    with open(os.path.join(log, "checkpoint"), "rb") as file:
        checkpoint = file.read()
    flip(os.path.join(log, tile), 33)
    one_not_ok("a flipped tile", "public log", tile)
    ledger("rebuild")
    all_ok("the tile is made again")
    os.unlink(os.path.join(log, tile))
    one_not_ok("a lost tile", "public log", tile)
    ledger("rebuild")
    os.unlink(os.path.join(folder, "index.sqlite"))
    one_not_ok("a lost index", "index", "there is none")
    result = ledger_json("rebuild")
    check("rebuild", result["published"] == ASKED + 2 and result["events"] == ASKED + 2, result)
    all_ok("all is made again")
    with open(os.path.join(log, "checkpoint"), "rb") as file:
        check("the checkpoint is the same", file.read() == checkpoint)


def main():
    with tempfile.TemporaryDirectory(prefix="openledger-books-") as folder:
        os.chdir(folder)
        home = os.path.join(folder, "home")
        os.environ["OPENLEDGER_HOME"] = home
        tiny_model.write_model(os.path.join(folder, "tiny"))
        subprocess.run([PROGRAM, "import", os.path.join(folder, "tiny")], check=True,
                       capture_output=True)
        check_empty()
        node = Node()
        split = {party: {"ppm": ppm} for party, ppm in PARTIES.items()}
        split["base"]["account"] = "0x" + "11" * 20
        split["builder"]["account"] = "0x" + "22" * 20
        split["platform"]["account"] = "platform"
        node.ask("/v1/listings", {"model": "tiny", "prompt_nano_per_1000": "1500000",
                                  "completion_nano_per_1000": "6001000", "split": split})
        node.ask("/v1/grants", {"account": "local", "nano": str(GRANT)})
        for _ in range(ASKED - 2):
            node.answer()
        all_ok("beside the running node")
        out, err = ledger("rebuild", expect=1)
        check("no rebuild beside the node", "in use" in err and not out, err)
        node.answer()
        node.kill()
        all_ok("after a kill")
        node = Node()
        node.answer()
        node.stop()
        rows = all_ok("after a stop")
        check("nothing is behind", "behind: 0 and 0" in rows["index"] and
              "0 events not yet" in rows["public log"] and
              rows["receipts"].startswith("%d," % ASKED), rows)
        check_books()
        check_damage(home)
    print("%d passed, %d failed" % (passed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
