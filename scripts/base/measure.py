"""Bits per byte of the held-out text: measure.py [MODEL] [ORDER...]

By gzip and xz (alone, and xz that has read the training text just before, as far as its window
reaches), by an n-gram model over the same tokens and the same training text (bench/bench_ngram.c;
default orders 3 and 4), and by the model. One JSON line each.
"""
import gzip
import json
import lzma
import os
import subprocess
import sys

import fetch

BUILD = os.path.join(fetch.ROOT, "build", "release")
WINDOW = 128 << 20
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": WINDOW}]


def texts(path):
    with open(path, encoding="utf-8") as rows:
        return [json.loads(row)["text"] for row in rows]


def show(**row):
    print(json.dumps(row), flush=True)


def xz_size(data):
    return len(lzma.compress(data, lzma.FORMAT_XZ, filters=FILTERS))


def main():
    model = sys.argv[1] if len(sys.argv) > 1 else None
    orders = sys.argv[2:] or ["3", "4"]
    corpus = os.path.join(fetch.CACHE, "corpus")
    heldout_path = os.path.join(corpus, "heldout.txt")
    heldout = "\n\n".join(texts(os.path.join(corpus, "heldout.jsonl"))).encode()
    with open(heldout_path, "wb") as file:
        file.write(heldout)
    size = len(heldout)
    training = "\n\n".join(texts(os.path.join(corpus, "train.jsonl"))).encode()
    show(what="heldout", bytes=size, training_bytes=len(training))
    show(what="gzip -9", bits_per_byte=round(8 * len(gzip.compress(heldout, 9)) / size, 4))
    show(what="xz -9e", bits_per_byte=round(8 * xz_size(heldout) / size, 4))
    primed = xz_size(training + heldout) - xz_size(training)
    show(what="xz -9e after the training text", bits_per_byte=round(8 * primed / size, 4))
    for order in orders:
        done = subprocess.run(
            [os.path.join(BUILD, "bench_ngram"),
             os.path.join(fetch.CACHE, "tokenizer", "tokenizer.json"), order, heldout_path,
             os.path.join(corpus, "train.jsonl"), os.path.join(corpus, "questions.jsonl")],
            check=True, capture_output=True, text=True)
        show(what="%s-gram" % order, **json.loads(done.stdout))
    if model:
        done = subprocess.run(
            [os.path.join(BUILD, "openledger"), "score", "-m", model, heldout_path, "--json"],
            check=True, capture_output=True, text=True)
        show(what=model, **json.loads(done.stdout))


if __name__ == "__main__":
    main()
