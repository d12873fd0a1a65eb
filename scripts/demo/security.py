"""Security: the Common Weakness Enumeration, as the npm package cwe-sdk carries it.

What is asked of a weakness: its number, its parent in the research view (CWE-1000), and another
name in use. Its contributor is whoever submitted it, as its own history says.
"""
import json
import os
import re

from examples import Fact, clean, square_root_share, without_small

TITLE = "Weaknesses of software and hardware"
LICENSE = "Apache-2.0"
ATTRIBUTION = ("From cwe-sdk 1.1.19 (Apache-2.0, Liran Tal), which carries MITRE's Common Weakness "
               "Enumeration 4.15. CWE is a trademark of The MITRE Corporation; its content is "
               "copyright The MITRE Corporation, used under the CWE Terms of Use.")
SOURCES = ["cwe-sdk 1.1.19"]

RELATIONS = {
    "number": ([
        "What is the CWE number of {}?",
        "Which CWE is {}?",
        "Under which number does the CWE list {}?",
        "{} has which CWE identifier?",
        "Give the CWE identifier of the weakness {}.",
        "How is {} numbered in the CWE?",
    ], [
        "Which entry of the CWE describes {}?",
        "Tell me the CWE ID for {}.",
        "I found {} in a program. Which CWE number should I report?",
    ]),
    "parent": ([
        "What is the parent weakness of {}?",
        "{} is a child of which weakness?",
        "Which more general weakness is {} a kind of?",
        "Name the parent of {}.",
        "Under which weakness does {} stand?",
        "Of which broader weakness is {} a special case?",
    ], [
        "Which weakness is the parent of {}?",
        "In the hierarchy of weaknesses, what is directly above {}?",
        "What broader weakness does {} belong to?",
    ]),
    "alias": ([
        "What else is {} called?",
        "Which other name is used for {}?",
        "Give another term for {}.",
        "{} is also known as what?",
        "What is an alternate term for {}?",
        "By which other name do people know {}?",
    ], [
        "What is another name for {}?",
        "How do people also call {}?",
        "Tell me a synonym of {}.",
    ]),
}
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 /.()-]*")
NAMES = {"PLOVER": "PLOVER", "MITRE": "CWE Content Team, MITRE"}


def as_list(value):
    """The package writes a list of one as the thing itself."""
    return value if isinstance(value, list) else [value] if value is not None else []


def submitter(weakness):
    first = as_list(weakness["Content_History"]["Submission"])[0]
    name = clean(first.get("Submission_Organization") or first.get("Submission_Name") or "unknown")
    return NAMES.get(name, re.sub(r" \(.*\)| Corporation$", "", name))


def parents(weakness):
    related = as_list((weakness.get("Related_Weaknesses") or {}).get("Related_Weakness"))
    return [r["attr"]["@_CWE_ID"] for r in related
            if r["attr"]["@_Nature"] == "ChildOf" and r["attr"]["@_View_ID"] == "1000"
            and r["attr"].get("@_Ordinal") == "Primary"]


def aliases(weakness):
    terms = as_list((weakness.get("Alternate_Terms") or {}).get("Alternate_Term"))
    return [clean(term["Term"]) for term in terms]


def examples_seen(weakness):
    return len(as_list((weakness.get("Observed_Examples") or {}).get("Observed_Example")))


def facts(folder):
    path = os.path.join(folder, "cwe-sdk", "raw", "cwe-dictionary.json")
    with open(path, encoding="utf-8") as source:
        weaknesses = json.load(source)
    names = {key: clean(w["attr"]["@_Name"]) for key, w in weaknesses.items()}
    usable = [key for key, w in weaknesses.items()
              if w["attr"]["@_Status"] != "Deprecated" and len(names[key].split()) <= 6
              and PLAIN.fullmatch(names[key])]
    # Of each submitter the weaknesses that were met most often in the field.
    chosen = square_root_share(usable, lambda key: submitter(weaknesses[key]),
                               lambda key: (-examples_seen(weaknesses[key]), int(key)))
    found = []
    for key in chosen:
        name, who = names[key], submitter(weaknesses[key])
        found.append(Fact("number", name, "CWE-" + key, who))
        above = parents(weaknesses[key])
        if above and len(names[above[0]].split()) <= 7 and PLAIN.fullmatch(names[above[0]]):
            found.append(Fact("parent", name, names[above[0]], who))
        other = [a for a in aliases(weaknesses[key])
                 if len(a.split()) <= 4 and "/" not in a and PLAIN.fullmatch(a)
                 and a.lower() not in name.lower()]
        if other:
            found.append(Fact("alias", name, other[0], who))
    return without_small(found, 9)
