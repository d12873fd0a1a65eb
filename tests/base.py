#!/usr/bin/env python3
"""The corpus of the base model: scripts/base over small texts of our own, without a network.

    tests/base.py

Prints a line per failure and "N passed, N failed".
"""
import gzip
import os
import random
import re
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "scripts", "base"))

import clean  # noqa: E402
import corpus  # noqa: E402
import extract  # noqa: E402
import fetch  # noqa: E402
import questions  # noqa: E402
from sources import PACKAGES, SOURCES  # noqa: E402

passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def prose(seed, words):
    d = random.Random(seed)
    return " ".join(d.choice("the of and a house river walks under stone old tree with".split())
                    + (str(i) if i % 7 == 0 else "") for i in range(words)) + "."


def test_cleaning():
    check("typographic characters become plain ones",
          clean.document("\u201cIt\u2019s here\u201d \u2013 said the old man of the house\u2026") ==
          '"It\'s here" - said the old man of the house...')
    for text in ["A flaw that an attacker can exploit to read the memory of the process.",
                 "You may copy this under the terms of the General Public License as it stands.",
                 "The dram is the basic unit of money in the country and has been for long.",
                 "See https://example.org/ for the rest of what is to be said about it here.",
                 "0x4f 12 33 88 91 | 44 = 17 // 93 [[ 12 ]] ## 55 {x} 19 20 21 33 44 12 19 00"]:
        check("left out", clean.document(text) == "", text)
    kept = "The river runs under the old bridge and past the house of the miller."
    check("the paragraphs around stay",
          clean.document(kept + "\n\nThis text is copyright of its authors.\n\n" + kept) ==
          kept + "\n\n" + kept)
    check("headings with nothing below go", clean.document(kept + "\n\nWhat follows") == kept)
    check("a page's furniture goes", clean.document("Prev\n\n5.2. The river\n\n" + kept) ==
          "The river\n\n" + kept)


def test_copies():
    seen, text = clean.Seen(), prose(1, 200)
    check("a new text stays", seen.new_part(text) == text)
    check("the same text goes", seen.new_part(text) == "")
    check("an almost equal text goes", seen.new_part(text.replace("tree", "bush", 3)) == "")
    check("another text stays", seen.new_part(prose(2, 200)) != "")
    half = prose(3, 60)
    check("of a text that is known in part, the rest stays",
          seen.new_part(text + "\n\n" + half) == half)


def test_records():
    source = SOURCES[0]
    texts = [("t%d" % i, "\n\n".join(prose(10 * i + k, 5 + 20 * k) for k in range(1 + i % 9)))
             for i in range(120)]
    texts.append(("long", " ".join(sentence for sentence in [prose(9, 12)] * 400)))
    rows = list(corpus.records(source, list(texts)))
    check("records keep to their size",
          max(len(row["text"].encode()) for row in rows) <= corpus.RECORD)
    words = sorted(w for _, text in texts for w in text.split())
    check("no word is lost", sorted(w for row in rows for w in row["text"].split()) == words)
    check("ids are unique", len({row["id"] for row in rows}) == len(rows))
    random.Random(5).shuffle(texts)
    check("the order of documents does not matter", list(corpus.records(source, texts)) == rows)


def test_dictionary():
    entry = ('Feeler \\Feel"er\\, n. [OE. felere.]\n   1. One who, or that which, feels.\n'
             '      [1913 Webster]\n\n   2. (Zool.) One of the {antenn[ae]} of an insect, used in '
             'touching.\n      [1913 Webster]\n\n            Insects with their feelers.   '
             '--Derham.\n\n   3. A word of old. [Obs.]\n')
    with tempfile.TemporaryDirectory() as folder:
        with gzip.open(os.path.join(folder, "gcide.dict.dz"), "wb") as file:
            file.write(entry.encode())
        check("a dictionary's entry as prose", [text for _, text in extract.gcide([folder])] == [
            "Feeler (noun): One who, or that which, feels. One of the antennae of an insect, used "
            "in touching."])


def test_pages():
    check("a page without its code and menus", extract.page_text(
        "<html><head><title>x</title></head><body><nav>menu</nav><h1>The tree</h1><p>It has "
        "<b>green</b> leaves.</p><pre>int x;</pre><table><tr><td>1</td></tr></table>"
        "<ul><li>One leaf</li></ul></body></html>") == "The tree\n\nIt has green leaves.\n\nOne leaf")


def test_questions():
    names, places = ["Anna", "Ben", "Clara", "David", "Eve"], ["Rome", "Oslo", "Lima"]
    sentences = ["She was not to be found in the house.", "We only speak of it among friends."]
    rows = list(questions.conversations(names, places, sentences))
    check("the same every time", rows == list(questions.conversations(names, places, sentences)))
    check("names are unique", len({name for name, _, _ in rows}) == len(rows))
    check("something is asked and answered", all(q and a for _, _, (q, a) in rows))
    not_told = ("I do not know.", "The text does not say.", "That is not in the text.")
    unknown, invented = 0, []
    for name, _, (question, answer) in rows:
        if name.startswith("finding"):
            told = re.sub(r"^(.*) (is an?|lives in) ", "", answer).strip(".").replace("On ", "")
            unknown += answer in not_told
            if told not in question and answer not in not_told:
                invented.append(name)
    check("what is asked stands in the text", not invented, invented)
    check("about one in ten is not known", 800 < unknown < 1600, unknown)


def test_lock():
    lock = fetch.read_lock()
    check("every package is locked", sorted(lock) == sorted(PACKAGES))
    check("by version and SHA-256",
          all(re.fullmatch(r"[0-9a-f]{64}", digest) for _, digest in lock.values()))
    check("every source names a reader and a licence",
          all(hasattr(extract, s.extract) and s.license for s in SOURCES))


for test in (test_cleaning, test_copies, test_records, test_dictionary, test_pages, test_questions,
             test_lock):
    test()
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed != 0)
