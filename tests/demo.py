#!/usr/bin/env python3
"""The demonstration sets: scripts/demo over small sources of our own, without a network.

    tests/demo.py

Prints a line per failure and "N passed, N failed".
"""
import collections
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = os.path.join(ROOT, "scripts", "demo")
sys.dont_write_bytecode = True
sys.path.insert(0, SCRIPTS)

import examples  # noqa: E402
import fetch  # noqa: E402
import finance  # noqa: E402
import law  # noqa: E402
import measure  # noqa: E402
import security  # noqa: E402

DOMAINS = {"security": security, "law": law, "finance": finance}
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def refused(name, words, call, *args):
    try:
        call(*args)
    except examples.DemoError as error:
        check(name, words in str(error) and "\n" not in str(error), repr(str(error)))
    else:
        check(name, False, "nothing was refused")


# ---- sources of our own, in the shape of the packages ----

KINDS = ["Buffer", "Token", "Session", "Cookie", "Lock", "Timer", "Parser", "Cache", "Queue", "Key"]
ACTS = ["Leak", "Reuse", "Loss", "Clash"]


def weakness(number, name, submitter, parent=None, aliases=(), seen=0, status="Draft"):
    related = [{"attr": {"@_Nature": "PeerOf", "@_CWE_ID": "1", "@_View_ID": "1000"}}]
    if parent:
        related.append({"attr": {"@_Nature": "ChildOf", "@_CWE_ID": parent, "@_View_ID": "1000",
                                 "@_Ordinal": "Primary"}})
    entry = {"attr": {"@_ID": str(number), "@_Name": name, "@_Status": status},
             "Related_Weaknesses": {"Related_Weakness": related},
             "Content_History": {"Submission": {"Submission_Name": submitter}},
             "Observed_Examples": {"Observed_Example": [{}] * seen}}
    terms = [{"Term": alias} for alias in aliases]
    if terms:  # the package writes a list of one as the thing itself
        entry["Alternate_Terms"] = {"Alternate_Term": terms[0] if len(terms) == 1 else terms}
    return entry


def make_security(folder):
    entries = {"1": weakness(1, "Root Weakness", "First Team")}
    number = 100
    for kind in KINDS:
        for act in ACTS:
            entries[str(number)] = weakness(
                number, "%s %s" % (kind, act), "First Team" if number % 3 else "Second Team (x)",
                parent="1", aliases=[kind + " slip"] if act == "Leak" else (), seen=number % 5)
            number += 1
    entries["900"] = weakness(900, "Old Weakness", "First Team", status="Deprecated", seen=99)
    entries["901"] = weakness(901, "Path: '..\\filedir'", "First Team", seen=99)
    entries["902"] = weakness(902, "Lone Weakness", "Third Team", seen=99)
    write(folder, "cwe-sdk/raw/cwe-dictionary.json", json.dumps(entries))


def make_law(folder):
    licenses = {}
    for index, kind in enumerate(KINDS):
        licenses["%sPL-1.0" % kind[:2].upper()] = licenses["%sPL-2.0" % kind[:2].upper()] = {
            "name": "%s Public License" % kind, "url": "https://www.gnu.org/%d" % index,
            "licenseText": "Copyright (c) 2001 %s Example\nAll rights. This license is governed by "
                           "the laws of the State of %sland." % (kind, kind)}
    licenses["Vim"] = {"name": "Vim License", "url": "https://www.gnu.org/v", "licenseText": ""}
    licenses["ODD-1.0"] = {"name": "Odd License", "url": "https://nowhere.example/",
                           "licenseText": ""}
    licenses["NOURL-1.0"] = {"name": "Homeless License", "licenseText": ""}
    write(folder, "spdx-license-list/spdx-full.json", json.dumps(licenses))


def make_finance(folder):
    codes = [{"mcc": "%04d" % (5000 + 7 * i), "edited_description": "%s %s Shops" % (kind, act)}
             for i, (kind, act) in enumerate((k, a) for k in KINDS for a in ACTS)]
    codes += [{"mcc": "3%03d" % (10 * i), "edited_description": kind.upper() + " AIR"}
              for i, kind in enumerate(KINDS)]
    write(folder, "mcc/mcc_codes.json", json.dumps(codes))
    entries = ["<CcyNtry><CtryNm>%sLAND (THE)</CtryNm><CcyNm>%s Mark</CcyNm><Ccy>%sM</Ccy>"
               "<CcyNbr>%03d</CcyNbr></CcyNtry>" % (kind.upper(), kind, kind[:2].upper(), 10 + i)
               for i, kind in enumerate(KINDS)]
    entries += ["<CcyNtry><CtryNm>BOTHLAND</CtryNm><CcyNm>Both %s</CcyNm><Ccy>BO%s</Ccy>"
                "<CcyNbr>5%s0</CcyNbr></CcyNtry>" % (n, n, n) for n in "12"]
    entries.append("<CcyNtry><CtryNm>FUNDLAND</CtryNm><CcyNm IsFund=\"true\">Fund</CcyNm>"
                   "<Ccy>FUN</Ccy><CcyNbr>777</CcyNbr></CcyNtry>")
    entries.append("<CcyNtry><CtryNm>ANTARCTICA</CtryNm><CcyNm>No universal currency</CcyNm>"
                   "</CcyNtry>")
    write(folder, "currency-codes/iso-4217-list-one.xml",
          "<ISO_4217><CcyTbl>%s</CcyTbl></ISO_4217>" % "".join(entries))


def write(folder, name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


def read_rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def contents(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


# ---- what every set promises ----

def question(row):
    return row["messages"][0]["content"]


def answer(row):
    return row["messages"][1]["content"]


def check_wordings(domain, relations):
    """Training and held-out wordings are different sentences, each with one place."""
    for relation, (seen, unseen) in relations.items():
        name = "%s/%s" % (domain, relation)
        check(name + ": enough wordings", len(seen) >= 6 and len(unseen) >= 3)
        check(name + ": one place each", all(t.count("{}") == 1 for t in seen + unseen))
        check(name + ": all different", len(set(seen + unseen)) == len(seen + unseen))
        everything = {t for pair in relations.values() for t in pair[0]}
        check(name + ": held-out wordings are unseen", not everything & set(unseen))


def check_set(domain, train, held_out, relations):
    check(domain + ": there are examples", len(train) > 50 and len(held_out) > 10)
    ids = [row["id"] for row in train + held_out]
    check(domain + ": ids are unique", len(set(ids)) == len(ids))
    for row in train + held_out:
        check(row["id"] + ": fields", set(row) >= {"id", "contributor", "license", "messages"}
              and row["contributor"].endswith(" (demo)")
              and [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
              and all(turn["content"].strip() == turn["content"] != ""
                      for turn in row["messages"]), str(row))
    by_answer = collections.defaultdict(set)
    who = {}
    for row in train:
        by_answer[question(row)].add(answer(row))
        who[row["id"].rsplit("-", 1)[0]] = (row["contributor"], answer(row))
    check(domain + ": a question has one answer", all(len(a) == 1 for a in by_answer.values()))
    check(domain + ": held-out questions are not in training",
          not {question(r).lower() for r in held_out} & {question(r).lower() for r in train})
    for row in held_out:
        fact = row["id"].replace("-held-out", "")
        check(row["id"] + ": the fact is taught by the same contributor",
              who.get(fact) == (row["contributor"], row["fact"]), str(who.get(fact)))
        check(row["id"] + ": the answer is the fact", answer(row) == row["fact"])
        check(row["id"] + ": the question does not tell the answer", not re.search(
            r"(?<!\w)%s(?!\w)" % re.escape(row["fact"]), question(row)), question(row))
        unseen = relations[row["relation"]][1]
        check(row["id"] + ": a held-out wording", any(
            question(row).lower().startswith(t.split("{}")[0].lower())
            and question(row).lower().endswith(t.split("{}")[1].lower()) for t in unseen))
    counts = collections.Counter(row["id"].rsplit("-", 1)[0] for row in train)
    check(domain + ": wordings a fact", set(counts.values()) == {6}
          and set(counts) == {row["id"].replace("-held-out", "") for row in held_out})


def check_domains(folder):
    sources = os.path.join(folder, "sources")
    for make in (make_security, make_law, make_finance):
        make(sources)
    for domain, module in DOMAINS.items():
        check_wordings(domain, module.RELATIONS)
        out, again = (os.path.join(folder, domain + end) for end in ("-1", "-2"))
        summary = examples.build(domain, sources, out)
        # The second time in a process of its own, with other hashes of strings.
        result = subprocess.run(
            [sys.executable, "-B", os.path.join(SCRIPTS, "examples.py"), domain, sources, again],
            env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True)
        check(domain + ": the command", result.returncode == 0 and "facts" in result.stdout,
              result.stderr)
        check(domain + ": same bytes", contents(out) == contents(again))
        train = read_rows(os.path.join(out, "train.jsonl"))
        held_out = read_rows(os.path.join(out, "held-out.jsonl"))
        check_set(domain, train, held_out, module.RELATIONS)
        check(domain + ": every relation occurs",
              {row["relation"] for row in held_out} == set(module.RELATIONS))
        check(domain + ": the card counts", summary["facts"] == len(held_out)
              and sum(c["examples"] for c in summary["contributors"].values()) == len(train))
        check(domain + ": more than one contributor or all of one",
              len(summary["contributors"]) >= (1 if domain == "law" else 2))
    return sources


def facts_of(folder, domain):
    return {(f.relation, f.subject): f for f in DOMAINS[domain].facts(folder)}


def check_reading(sources):
    """What the domains take from their sources, and what they leave."""
    found = facts_of(sources, "security")
    subjects = {subject for _, subject in found}
    check("deprecated weaknesses are left out", "Old Weakness" not in subjects)
    check("names that are paths are left out", not any("Path" in s for s in subjects))
    check("too small a contributor is left out", "Lone Weakness" not in subjects)
    some = next(f for f in found.values() if f.relation == "parent")
    check("the parent", some.answer == "Root Weakness")
    check("notes in brackets are not part of a submitter",
          {f.contributor for f in found.values()} == {"First Team", "Second Team"})
    found = facts_of(sources, "law")
    check("the newest version alone", found["identifier", "Buffer Public License"].answer
          == "BUPL-2.0" and ("name", "BUPL-1.0") not in found)
    check("governing law", found["law", "Timer Public License"].answer == "Timerland")
    check("copyright holder", found["holder", "Timer Public License"].answer == "Timer Example")
    check("obvious identifiers are left out", ("identifier", "Vim License") not in found)
    check("unknown publishers are left out", ("identifier", "Odd License") not in found)
    found = facts_of(sources, "finance")
    check("capitals become words", found["category", "Lock Air"].answer == "3040")
    check("countries as one says them", any(s.endswith("land") for r, s in found
                                            if r == "currency"))
    check("countries with two currencies are left out", ("currency", "Bothland") not in found)
    check("funds are left out", ("currency", "Fundland") not in found)


def check_helpers():
    fact = examples.Fact
    kept = examples.askable([fact("r", "A", "1", "x"), fact("r", "a", "2", "x"),
                             fact("r", "B", "3", "x"), fact("s", "A", "4", "x"),
                             fact("r", "B", "3", "x"), fact("r", "C of D", "D", "x")])
    check("two answers, or told by the question: not asked", [(f.relation, f.subject) for f in kept]
          == [("r", "B"), ("s", "A")])
    shares = examples.square_root_share(list(range(100)) + [1000, 1001], lambda n: n >= 1000,
                                        lambda n: -n, 2)
    check("square-root shares", shares == list(range(99, 79, -1)) + [1001, 1000], str(shares))
    check("a question begins with a capital", examples.phrase("{} is what?", "x") == "X is what?")
    check("a subject with braces stays as it is", examples.phrase("Is {}?", "{}") == "Is {}?")


# ---- fetching, without a network ----

def make_archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo("package/" + name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))


@contextlib.contextmanager
def only_package(package):
    packages, ways = dict(fetch.PACKAGES), (fetch.by_npm, fetch.by_url)
    fetch.PACKAGES = {"security": [package]}
    fetch.by_npm = lambda *_: "npm is not there"
    fetch.by_url = lambda *_: "no registry"
    try:
        yield
    finally:
        fetch.PACKAGES = packages
        fetch.by_npm, fetch.by_url = ways


def check_fetching(folder):
    os.makedirs(folder)
    archive = os.path.join(folder, "thing-1.0.tgz")
    make_archive(archive, {"data.json": b"{}", "evil.js": b"x"})
    digest = fetch.sha256_of(archive)
    with only_package(("thing", "1.0", digest, ["data.json"])):
        check("an archive put there is taken", fetch.fetch("security", folder) == ["thing"])
        check("only what is read is unpacked", sorted(os.listdir(os.path.join(folder, "thing")))
              == ["archive.sha256", "data.json"])
        os.remove(archive)
        check("the second time nothing is fetched", fetch.fetch("security", folder) == [])
        refused("no network: one sentence", "could not be fetched (npm is not there; no registry)",
                fetch.fetch, "security", os.path.join(folder, "empty"))
    with only_package(("thing", "1.1", "0" * 64, ["data.json"])):
        make_archive(os.path.join(folder, "thing-1.1.tgz"), {"data.json": b"[]"})
        refused("another archive is refused", "not the archive that was reviewed", fetch.fetch,
                "security", folder)
        check("and what was there stays", fetch.present(os.path.join(folder, "thing"), digest))
    refused("no such domain", "security", fetch.fetch, "cooking", folder)
    refused("no such examples", "cooking", examples.build, "cooking", folder, folder)
    refused("no sources", "fetch.py", examples.build, "law", os.path.join(folder, "none"), folder)
    for domain, packages in fetch.PACKAGES.items():
        check(domain + ": pinned", all(re.fullmatch(r"[0-9a-f]{64}", digest)
                                       and re.fullmatch(r"\d+\.\d+\.\d+", version)
                                       for _, version, digest, _ in packages))
        check(domain + ": sources are named", DOMAINS[domain].SOURCES
              == ["%s %s" % package[:2] for package in packages])


# ---- measuring, with a program that only pretends ----

# It knows the answers of the examples when it has an adapter, and else answers "no".
PRETENDER = r"""#!%s -ISB
import json, sys
def value(*names):
    found = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word in names]
    return found[0] if found else None
command, adapter = sys.argv[1], value("--adapter")
if command == "import":
    print("imported " + sys.argv[2])
elif command == "train":
    print("progress", file=sys.stderr)
    print(json.dumps({"adapter": value("--name"), "adapter_sha256": value("--seed") * 8}))
elif command == "eval":
    with open(value("--per-example"), "w") as out:
        for row in map(json.loads, open(value("-d"))):
            text = "It is %%s." %% row["fact"] if adapter else "no"
            out.write(json.dumps({"id": row["id"], "answer": text}) + "\n")
    print(json.dumps({"nats_per_byte": 0.5 if adapter else 2.0}))
elif command == "run":
    print("the first look")
else:
    sys.exit("openledger: there is no " + command)
"""


def check_right():
    for good, text, fact in [
            (True, "CWE-79", "CWE-79"), (True, "It is cwe-79.", "CWE-79"),
            (False, "CWE-790", "CWE-79"), (False, "XCWE-79", "CWE-79"),
            (False, "MIT-0", "MIT"), (False, "LGPL-3.0", "GPL-3.0"), (True, "(MIT)", "MIT"),
            (False, "GPL-3.0-only", "GPL-3.0"), (True, "GPL-3.0, I think", "GPL-3.0"),
            (True, "New\n York", "New York"), (False, "", "New York"), (False, "7,3011", "301"),
            (False, "14.25", "14"), (True, "code 3011", "3011")]:
        check("right(%r, %r)" % (text, fact), measure.right(text, fact) == good)


def check_lookup():
    def row(asked, told):
        return {"messages": [{"role": "user", "content": asked},
                             {"role": "assistant", "content": told}], "fact": told}
    lookup = measure.Lookup([row("What is the code of red apples?", "1"),
                             row("What is the code of green pears?", "2"),
                             row("What is the colour of pears?", "3")])
    check("lookup: the nearest", lookup.answer("Tell me the code for GREEN pears") == "2")
    check("lookup: rare words weigh more", lookup.answer("the colour of apples, pears") == "3")
    check("lookup: nothing in common is the first", lookup.answer("zebra") == "1")
    check("lookup: its rate", lookup.rate([row("red apples", "1"), row("pears colour", "2")])
          == 0.5)
    rows = list(range(10))
    check("spread", measure.spread(rows, 4) == [0, 2, 5, 7]
          and measure.spread(rows, 99) == rows)


def check_measuring(folder, sources):
    """The story of `make run` and bench/quality, from sources to table."""
    home, program = os.path.join(folder, "home"), os.path.join(folder, "pretender")
    for domain, packages in fetch.PACKAGES.items():
        for name, _, digest, files in packages:
            stand_in = os.path.join(home, "demo", "sources", name)
            os.makedirs(stand_in)
            for file in files[1:]:
                with open(os.path.join(sources, name, file), encoding="utf-8") as text:
                    write(stand_in, file, text.read())
            write(stand_in, "archive.sha256", digest + "\n")
    with open(program, "w", encoding="utf-8") as out:
        out.write(PRETENDER % sys.executable)
    os.chmod(program, 0o755)
    env = {**os.environ, "OPENLEDGER_HOME": home, "OPENLEDGER": program, "OPENLEDGER_BASE": folder}

    def run(*command, **more):
        return subprocess.run([sys.executable, "-B", *command], env={**env, **more},
                              capture_output=True, text=True)

    result = run(os.path.join(SCRIPTS, "run"), "security")
    check("make run: all steps", result.returncode == 0 and "5. The same" in result.stdout,
          result.stderr)
    check("make run: side by side", result.stdout.count("wrong\n") >= 8 <= result.stdout.count(
        "right\n"), result.stdout)
    check("make run: the counts", re.search(r"base +0\.0% right, 2\.000 nats", result.stdout)
          and re.search(r"adapter +100\.0% right, 0\.500", result.stdout), result.stdout)
    result = run(os.path.join(SCRIPTS, "run"), "security", OPENLEDGER_BASE=folder + "/none")
    check("make run without a base", result.stdout == "the first look\n", result.stdout)
    result = run(os.path.join(SCRIPTS, "run"), "cooking")
    check("make run of no domain", result.returncode == 1 and result.stderr.startswith("demo: ")
          and result.stderr.count("\n") == 1, result.stderr)
    rows = os.path.join(folder, "rows.jsonl")
    result = run(os.path.join(ROOT, "bench", "quality"), "-m", "base", "--program", program,
                 "--domains", "security", "--seeds", "1,2", "--folder",
                 os.path.join(home, "demo"), "--json", rows)
    check("quality: the table", "75.0%" in result.stdout and "mean" in result.stdout,
          result.stdout + result.stderr)
    check("quality: the rows", [(r["seed"], r["base_exact"], r["adapter_exact"],
                                 r["adapter_sha256"]) for r in read_rows(rows)]
          == [("1", 0.0, 1.0, "1" * 8), ("2", 0.0, 1.0, "2" * 8)])


def main():
    check_helpers()
    check_right()
    check_lookup()
    with tempfile.TemporaryDirectory() as folder:
        sources = check_domains(folder)
        check_reading(sources)
        check_fetching(os.path.join(folder, "fetch"))
        check_measuring(folder, sources)
    print("%d passed, %d failed" % (passed, failed))
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
