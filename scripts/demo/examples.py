#!/usr/bin/env python3
"""Facts of a domain -> questions and answers, one JSON object a line.

    scripts/demo/examples.py DOMAIN SOURCES OUT     DOMAIN: security, law, finance

SOURCES is the folder that fetch.py filled, OUT gets

    train.jsonl     {id, contributor, license, messages}
    held-out.jsonl  {id, contributor, license, messages, relation, fact}
    card.json       how many facts and examples each contributor gave; sources and licences

A fact is (relation, subject, answer, contributor). It is asked in all the wordings for training in
train.jsonl, and in one that training never uses in held-out.jsonl: what is held out is the wording,
not the fact. Which one it gets follows from the SHA-256 of its name, so the same package version
gives the same bytes on every machine.
"""
import collections
import hashlib
import importlib
import json
import os
import re
import sys

Fact = collections.namedtuple("Fact", "relation subject answer contributor")


class DemoError(Exception):
    """One sentence for whoever typed the command."""


def number(text):
    """A number that looks random but is the same everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def clean(text):
    return re.sub(r"\s+", " ", text).strip()


def square_root_share(items, contributor, rank, factor=3):
    """At most `factor` times the square root of what each contributor has, the lowest rank first:
    the large stay large, but do not drown the small."""
    groups = collections.defaultdict(list)
    for item in items:
        groups[contributor(item)].append(item)
    kept = []
    for name in sorted(groups):
        group = sorted(groups[name], key=rank)
        kept += group[:int(factor * len(group) ** 0.5)]
    return kept


def without_small(facts, least):
    """Without the contributors that have fewer than `least` facts."""
    count = collections.Counter(fact.contributor for fact in facts)
    return [fact for fact in facts if count[fact.contributor] >= least]


def askable(facts):
    """Without questions that have two answers, or that tell theirs; in an order that no source's
    order changes."""
    answers = collections.defaultdict(set)
    for fact in facts:
        answers[fact.relation, fact.subject.lower()].add(fact.answer)
    kept = {(f.relation, f.subject.lower()): f for f in sorted(facts, reverse=True)
            if len(answers[f.relation, f.subject.lower()]) == 1
            and f.answer.lower() not in f.subject.lower()}
    return sorted(kept.values())


def phrase(template, subject):
    question = template.replace("{}", subject)
    return question[0].upper() + question[1:]


def row(name, asked, question, license_, **more):
    return {"id": name, "contributor": asked.contributor + " (demo)", "license": license_,
            "messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": asked.answer}], **more}


def make(domain, facts, relations, license_):
    """(train rows, held-out rows). relations: name -> (training wordings, held-out wordings)."""
    train, held_out = [], []
    for index, fact in enumerate(askable(facts)):
        wordings, unseen = relations[fact.relation]
        name = "%s-%04d" % (domain, index)
        turn = number("/".join((domain, fact.relation, fact.subject)))
        for which, wording in enumerate(wordings):
            train.append(row("%s-%d" % (name, which), fact, phrase(wording, fact.subject),
                             license_))
        held_out.append(row(name + "-held-out", fact,
                            phrase(unseen[turn % len(unseen)], fact.subject), license_,
                            relation=fact.relation, fact=fact.answer))
    return train, held_out


def card(module, train, held_out):
    """What is in the set, for people and for tools."""
    people = collections.OrderedDict()
    for name in sorted({r["contributor"] for r in train}):
        people[name] = {"facts": sum(r["contributor"] == name for r in held_out),
                        "examples": sum(r["contributor"] == name for r in train)}
    return {"title": module.TITLE, "license": module.LICENSE, "attribution": module.ATTRIBUTION,
            "terms": {"train": True, "export": True, "commercial": True},
            "sources": module.SOURCES, "facts": len(held_out), "examples": len(train),
            "relations": dict(sorted(collections.Counter(
                r["relation"] for r in held_out).items())),
            "contributors": people}


def lines(rows):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


def write(folder, name, text):
    """All or nothing: a half-written file must not look like a set of examples."""
    path = os.path.join(folder, name)
    with open(path + ".part", "w", encoding="utf-8", newline="\n") as out:
        out.write(text)
    os.replace(path + ".part", path)


def build(domain, sources, out):
    """Writes the three files; returns the card."""
    try:
        module = importlib.import_module(domain)
    except ModuleNotFoundError as error:
        if error.name != domain:
            raise
        raise DemoError("there is no domain \"%s\"; there are security, law and finance" % domain)
    try:
        facts = module.facts(sources)
    except FileNotFoundError as error:
        raise DemoError("%s is not there; scripts/demo/fetch.py %s %s brings it"
                        % (error.filename, domain, sources))
    train, held_out = make(domain, facts, module.RELATIONS, module.LICENSE)
    os.makedirs(out, exist_ok=True)
    summary = card(module, train, held_out)
    write(out, "train.jsonl", lines(train))
    write(out, "held-out.jsonl", lines(held_out))
    write(out, "card.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    return summary


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.split("\n\n")[1].strip())
    try:
        summary = build(*sys.argv[1:])
    except DemoError as error:
        sys.exit("demo: %s" % error)
    print("%s: %d facts, %d examples from %d contributors" % (
        summary["title"], summary["facts"], summary["examples"], len(summary["contributors"])))
    for name, counts in summary["contributors"].items():
        print("  %-46s %4d facts %5d examples" % (name, counts["facts"], counts["examples"]))


if __name__ == "__main__":
    sys.modules["examples"] = sys.modules[__name__]  # the domains import us by this name
    main()
