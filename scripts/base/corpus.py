"""Writes the corpus of the base model: corpus.py [OUT] (default: the cache folder's corpus/).

    OUT/train.jsonl       records {"id", "text", "license"} of up to RECORD bytes, in mixed order
    OUT/heldout.jsonl     one document in 200, by hash: never trained on
    OUT/counts.json       documents and bytes of each source

The same packages give the same bytes.
"""
import hashlib
import json
import os
import sys

import clean
import extract
import fetch
from sources import SOURCES

RECORD = 1550  # bytes: a little below what 512 tokens hold
HELDOUT = 200  # one document in so many


def key_of(name):
    return hashlib.sha256(name.encode()).digest()


def documents(source, seen):
    folders = [fetch.folder_of(p) for p in source.packages]
    for name, text in getattr(extract, source.extract)(folders):
        text = clean.document(text)
        if text:
            text = seen.new_part(text)
        if text:
            yield "%s/%s" % (source.name, name), text


def pieces(text):
    """Cuts a document at paragraphs' ends (at sentences' ends where one is too long)."""
    piece = ""
    for paragraph in text.split("\n\n"):
        parts = [paragraph]
        if len(paragraph.encode()) > RECORD:
            parts = paragraph.replace(". ", ".\0").split("\0")
        for number, part in enumerate(parts):
            glue = ("\n\n" if number == 0 else " ") if piece else ""
            if piece and len((piece + glue + part).encode()) > RECORD:
                yield piece
                piece, glue = "", ""
            piece += glue + part
    if piece:
        yield piece


def records(source, texts):
    """Long documents are cut, short ones of a source share a record."""
    texts.sort(key=lambda row: key_of(row[0]))
    held, held_id = "", ""
    for name, text in texts:
        for number, piece in enumerate(pieces(text)):
            if held and len((held + "\n\n" + piece).encode()) > RECORD:
                yield {"id": held_id, "text": held, "license": source.license}
                held = ""
            if not held:
                held_id = "%s#%d" % (name, number)
            held = held + "\n\n" + piece if held else piece
    if held:
        yield {"id": held_id, "text": held, "license": source.license}


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(fetch.CACHE, "corpus")
    os.makedirs(out, exist_ok=True)
    seen, train, heldout, counts = clean.Seen(), [], [], {}
    for source in SOURCES:
        texts = []
        size = held = 0
        for name, text in documents(source, seen):
            if key_of(name)[0] * 256 + key_of(name)[1] < 65536 // HELDOUT:
                heldout.append({"id": name, "text": text, "license": source.license})
                held += len(text.encode())
            else:
                texts.append((name, text))
                size += len(text.encode())
        counts[source.name] = {"documents": len(texts), "bytes": size, "heldout_bytes": held}
        train += records(source, texts)
        print("%-14s %8d documents %11d bytes, %9d held out" %
              (source.name, len(texts), size, held), flush=True)
    train.sort(key=lambda row: key_of(row["id"]))
    heldout.sort(key=lambda row: key_of(row["id"]))
    write(os.path.join(out, "train.jsonl"), train)
    write(os.path.join(out, "heldout.jsonl"), heldout)
    with open(os.path.join(out, "counts.json"), "w") as file:
        json.dump(counts, file, indent=1)
        file.write("\n")
    print("%d records, %d bytes" % (len(train), sum(c["bytes"] for c in counts.values())))


if __name__ == "__main__":
    main()
