"""What an adapter learned: right answers, nats per byte, and what mere lookup would have answered.

Used by bench/quality (all domains, three seeds) and by scripts/demo/run (what `make run` shows).
"""
import collections
import json
import math
import os
import re
import subprocess
import tempfile

from examples import DemoError

# How the demonstration's adapters are trained: a few thousand short examples, seen often. Nothing is
# held out of them: the wordings that are never trained on are in a file of their own.
TRAIN = ("--epochs", "12", "--batch", "16", "--lr", "0.007", "--eval-fraction", "0")

def read_rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def question(row):
    return row["messages"][0]["content"]


def answer(row):
    return row["messages"][1]["content"]


def right(text, fact):
    """Whether an answer holds the fact, whole: CWE-79 is not in CWE-790, nor MIT in MIT-0."""
    text, fact = (" ".join(s.lower().split()) for s in (text, fact))
    return re.search(r"(?<!\w)(?<!\w[-.+])" + re.escape(fact) + r"(?!\w|[-.+]\w)", text) is not None


class Lookup:
    """The answer of the nearest training question, by BM25 (k1 1.2, b 0.75; ties: the first).

    What a search engine over the same examples would say: an adapter is measured against it."""

    def __init__(self, rows):
        self.answers = [answer(row) for row in rows]
        self.words = [collections.Counter(self.split(question(row))) for row in rows]
        self.length = [sum(words.values()) for words in self.words]
        self.mean = sum(self.length) / max(1, len(rows))
        seen = collections.Counter(word for words in self.words for word in words)
        self.weight = {word: math.log(1 + (len(rows) - n + 0.5) / (n + 0.5))
                       for word, n in seen.items()}

    @staticmethod
    def split(text):
        return re.findall(r"[^\W_]+", text.lower())

    def answer(self, asked):
        words = sorted(set(self.split(asked)) & set(self.weight))
        best, found = -1.0, ""
        for have, length, text in zip(self.words, self.length, self.answers):
            score = sum(self.weight[w] * 2.2 * have[w] /
                        (have[w] + 1.2 * (0.25 + 0.75 * length / self.mean)) for w in words)
            if score > best:
                best, found = score, text
        return found

    def rate(self, rows):
        return share(right(self.answer(question(row)), row["fact"]) for row in rows)


def share(flags):
    flags = list(flags)
    return sum(flags) / max(1, len(flags))


def spread(rows, count):
    """At most `count` rows, evenly over the file, so that every relation occurs."""
    if count >= len(rows):
        return rows
    return [rows[i * len(rows) // count] for i in range(count)]


class Answers:
    """What a base, with or without an adapter, answered to the rows of a file."""

    def __init__(self, texts, nats_per_byte):
        self.texts = texts                  # by the row's id
        self.nats_per_byte = nats_per_byte  # of the right answers

    def is_right(self, row):
        return right(self.texts.get(row["id"], ""), row["fact"])

    def rate(self, rows):
        return share(self.is_right(row) for row in rows)


class Program:
    """The openledger commands that the measurements use."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        if not os.access(self.path, os.X_OK):
            raise DemoError("%s is not there; `make` builds it" % path)

    def run(self, *args, show=False):
        """Standard output of one command; with show, its progress goes to the terminal."""
        result = subprocess.run([self.path, *args], stdout=subprocess.PIPE, text=True,
                                stderr=None if show else subprocess.PIPE)
        if result.returncode:
            words = (result.stderr or "").strip() or "exit status %d" % result.returncode
            raise DemoError("openledger %s failed: %s" % (args[0], words))
        return result.stdout

    def json(self, *args, show=False):
        """The last line of a command's output, which is its result."""
        lines = self.run(*args, "--json", show=show).strip().splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, ValueError):
            raise DemoError("openledger %s gave no result" % args[0])

    def train(self, base, data, name, seed, *options, show=False):
        return self.json("train", "-m", base, "-d", data, "--name", name, "--seed", str(seed),
                         "--force", *options, show=show)

    def evaluate(self, base, adapter, data):
        """Lets the base, under an adapter unless None, answer the questions of a file."""
        with_adapter = ["--adapter", adapter] if adapter else []
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "answers.jsonl")
            sums = self.json("eval", "-m", base, *with_adapter, "-d", data, "--per-example", path)
            texts = {row["id"]: row.get("answer", "") for row in read_rows(path)}
        return Answers(texts, sums["nats_per_byte"])
