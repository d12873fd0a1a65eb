"""Finance: merchant category codes (npm package mcc) and ISO 4217 currencies (currency-codes).

What is asked: the category code of a business, the currency of a country, the alphabetic and the
numeric code of a currency. A category's contributor is the chapter of the code table it stands in,
a currency's the list it comes from.
"""
import collections
import json
import os
import re
import xml.etree.ElementTree

from examples import Fact, clean, number, square_root_share, without_small

TITLE = "Codes of payments"
LICENSE = "MIT"
ATTRIBUTION = ("From mcc 2.2.0 (MIT), merchant category codes as USDA and IRS publish them, and "
               "currency-codes 2.2.0 (MIT, Freeall), ISO 4217 List One of its maintenance agency.")
SOURCES = ["mcc 2.2.0", "currency-codes 2.2.0"]

RELATIONS = {
    "category": ([
        "What is the merchant category code of {}?",
        "Which merchant category code do {} have?",
        "Give the category code for {}.",
        "Under which merchant code are {} filed?",
        "{}: which merchant category code?",
        "How are {} coded on a card statement?",
    ], [
        "Which MCC stands for {}?",
        "Tell me the code that card networks use for {}.",
        "I was paid as {}. What category code is that?",
    ]),
    "currency": ([
        "What is the currency of {}?",
        "Which currency is used in {}?",
        "What money do people use in {}?",
        "Name the currency of {}.",
        "In which currency does one pay in {}?",
        "{} has which currency?",
    ], [
        "What do I pay with in {}?",
        "Tell me which money {} uses.",
        "I travel to {}. Which currency do I need?",
    ]),
    "alphabetic": ([
        "What is the ISO code of the currency {}?",
        "Which three letters stand for the currency {}?",
        "How is the currency {} abbreviated?",
        "Give the alphabetic code of the currency {}.",
        "Under which letters does ISO 4217 list the currency {}?",
        "The currency {} has which ISO code?",
    ], [
        "Which currency code do banks write for {}?",
        "Tell me the three-letter code for {}.",
        "How do I write {} in a payment order, as a code?",
    ]),
    "numeric": ([
        "What is the numeric code of the currency {}?",
        "Which number stands for the currency {}?",
        "Give the ISO number of the currency {}.",
        "How is the currency {} numbered in ISO 4217?",
        "The currency {} has which numeric code?",
        "Under which number does ISO list the currency {}?",
    ], [
        "Which three digits identify {}?",
        "Tell me the currency number for {}.",
        "In ISO 4217, what number has {}?",
    ]),
}

# The chapters of the code table, by the first code after each.
CHAPTERS = [(1500, "MCC Agricultural Services"), (3000, "MCC Contracted Services"),
            (3300, "MCC Airlines"), (3500, "MCC Car Rental"), (4000, "MCC Lodging"),
            (4800, "MCC Transportation"), (5000, "MCC Utilities"), (5600, "MCC Retail Outlets"),
            (5700, "MCC Clothing Stores"), (7300, "MCC Miscellaneous Stores"),
            (8000, "MCC Business Services"), (9000, "MCC Professional Services"),
            (10000, "MCC Government Services")]
LIST_ONE = "ISO 4217 List One"
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 /&.'-]*")

def categories(path):
    with open(path, encoding="utf-8") as source:
        codes = json.load(source)
    for entry in codes:
        name = clean(entry["edited_description"]).replace("\u2019", "'")
        name = re.sub(r" ?\(.*?\)|,? [Nn]ot [Ee]lsewhere [Cc]lassified", "", name).strip()
        name = name.title().replace("'S", "'s") if name.isupper() else name
        if PLAIN.fullmatch(name) and len(name.split()) <= 5 and len(name) > 3:
            chapter = next(n for end, n in CHAPTERS if int(entry["mcc"]) < end)
            yield Fact("category", name, entry["mcc"], chapter)


def country(name):
    """ISO writes BOLIVIA (PLURINATIONAL STATE OF); people say Bolivia."""
    name = re.sub(r" ?\(.*\)", "", clean(name)).title()
    return re.sub(r"\b(And|Of|The)\b", lambda m: m.group(0).lower(), name)


def currencies(path):
    """Those of one country alone, a third of them: three facts each."""
    entries = [(country(e.findtext("CtryNm")), clean(e.findtext("CcyNm") or ""), e.findtext("Ccy"),
                e.findtext("CcyNbr"), (e.find("CcyNm").get("IsFund") or "") != "")
               for e in xml.etree.ElementTree.parse(path).iter("CcyNtry")]
    entries = [entry for entry in entries if entry[2] and not entry[4]]
    uses = collections.Counter(entry[2] for entry in entries)
    has = collections.Counter(entry[0] for entry in entries)
    for where, name, code, digits, _ in entries:
        if uses[code] > 1 or has[where] > 1 or code[0] == "X" or number(code) % 3 \
                or not PLAIN.fullmatch(where) or not PLAIN.fullmatch(name):
            continue
        yield Fact("currency", where, name, LIST_ONE)
        yield Fact("alphabetic", name, code, LIST_ONE)
        yield Fact("numeric", name, digits, LIST_ONE)


def facts(folder):
    shops = list(categories(os.path.join(folder, "mcc", "mcc_codes.json")))
    money = list(currencies(os.path.join(folder, "currency-codes", "iso-4217-list-one.xml")))
    shops = square_root_share(shops, lambda f: f.contributor, lambda f: f.answer, 4)
    return without_small(shops + money, 9)
