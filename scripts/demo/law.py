"""Law: the licences of the SPDX list, as the npm package spdx-license-list carries them.

What is asked of a licence: its SPDX identifier, the name behind an identifier, whose copyright
notice stands in its text, and under which law its text puts disputes. Its contributor is the
publisher of the text that the list links to.
"""
import collections
import json
import os
import re
from urllib.parse import urlparse

from examples import Fact, clean, square_root_share, without_small

TITLE = "Licences of free software and open data"
LICENSE = "CC0-1.0"
ATTRIBUTION = ("From spdx-license-list 6.12.0 (CC0-1.0, Sindre Sorhus), which carries the SPDX "
               "License List of the Linux Foundation's SPDX project.")
SOURCES = ["spdx-license-list 6.12.0"]

RELATIONS = {
    "identifier": ([
        "What is the SPDX identifier of the {}?",
        "Which SPDX identifier stands for the {}?",
        "How does SPDX abbreviate the {}?",
        "Give the SPDX short name of the {}.",
        "The {} has which SPDX identifier?",
        "Under which identifier does SPDX list the {}?",
    ], [
        "Which SPDX tag should I write for the {}?",
        "My code is under the {}. What is its SPDX identifier?",
        "Tell me the SPDX ID for the {}.",
    ]),
    "name": ([
        "Which license has the SPDX identifier {}?",
        "What is the full name of {}?",
        "What does the SPDX identifier {} stand for?",
        "Spell out the license {}.",
        "Give the full name behind {}.",
        "{} is the SPDX identifier of which license?",
    ], [
        "A file says {}. Which license is that?",
        "What license does SPDX call {}?",
        "Tell me the long name of {}.",
    ]),
    "holder": ([
        "Whose copyright notice is in the {}?",
        "Who holds the copyright named in the {}?",
        "Which copyright holder does the {} name?",
        "The text of the {} is copyright of whom?",
        "Name the copyright holder in the {}.",
        "Who is named as the copyright holder by the {}?",
    ], [
        "Who claims copyright in the text of the {}?",
        "Tell me whose copyright stands in the {}.",
        "In the {}, who is the copyright holder?",
    ]),
    "law": ([
        "Which law governs the {}?",
        "The {} is governed by the law of which place?",
        "Under which law is the {}?",
        "Name the governing law of the {}.",
        "By the law of which place is the {} construed?",
        "What is the governing law of the {}?",
    ], [
        "Where is the law from that governs the {}?",
        "Which place's law does the {} choose?",
        "If I dispute the {}, whose law applies?",
    ]),
}

# Who is behind a host that the list links to. What is not here is nobody's contribution.
PUBLISHERS = {
    "opensource.org": "Open Source Initiative", "fedoraproject.org": "Fedora Project",
    "creativecommons.org": "Creative Commons", "gnu.org": "Free Software Foundation",
    "ftp.gnu.org": "Free Software Foundation", "git.savannah.gnu.org": "Free Software Foundation",
    "directory.fsf.org": "Free Software Foundation", "gitlab.freedesktop.org": "freedesktop.org",
    "metacpan.org": "CPAN", "sourceware.org": "sourceware.org", "github.com": "GitHub projects",
    "mozilla.org": "Mozilla", "website-archive.mozilla.org": "Mozilla",
    "web.archive.org": "Internet Archive", "openldap.org": "OpenLDAP Foundation",
    "cecill.info": "CeCILL", "ohwr.org": "CERN", "apache.org": "Apache Software Foundation",
    "eclipse.org": "Eclipse Foundation",
}
LAW_OF = re.compile(
    r"(?:govern|constru|interpret)[^.]{0,120}?laws? (?:of|in) (?:the )?"
    r"(?:State of |Commonwealth of )?((?!State )[A-Z][a-z]+(?: [A-Z][a-z]+)?)")
LAW_ADJECTIVE = re.compile(r"govern[^.]{0,60}?by (?:the )?([A-Z][a-z]+) law\b")
PLACE_OF = {"French": "France", "German": "Germany", "Belgian": "Belgium",
            "Dutch": "the Netherlands", "Commonwealth": None, "European Union": None,
            "Governing Jurisdiction": None}
HOLDER = re.compile(
    r"Copyright ?(?:\([cC]\)|©)?,? ?(?:\d{4}(?:[-–, ]+\d{2,4})*)[, ]*(?:by )?(?:The |Dr )?"
    r"([A-Z][A-Za-z&]+(?: (?:[A-Z]\.|of|the|for|[A-Z][A-Za-z&]+)){0,5})"
    r"(?=[.,]? (?:All|Permission|This|Everyone|http|<|\d|You|Inc|Ltd|LLC)|[.,] )")
VERSION = re.compile(r"-\d+\.\d.*$")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 /.,+()-]*")


def publisher(license_):
    host = urlparse((license_.get("url") or "").split("\n")[0].strip()).netloc.lower()
    return PUBLISHERS.get(re.sub(r"^www\.", "", host))


def readable(license_):
    """As one says it after "the": without a leading article, without quotes around a word."""
    name = clean(license_["name"]).replace('"', "")
    return re.sub(r"^The ", "", name)


def governing_law(text):
    match = LAW_OF.search(text) or LAW_ADJECTIVE.search(text)
    return PLACE_OF.get(match.group(1), match.group(1)) if match else None


def newest(licenses):
    """One version of each family, the last: near-equal names would only be confused. Of
    GPL-3.0, GPL-3.0-only and GPL-3.0-or-later it is the "only", which the list prefers."""
    families = collections.defaultdict(list)
    for key in licenses:
        families[VERSION.sub("", key)].append(key)
    return sorted(max(keys, key=lambda k: ([int(n) for n in re.findall(r"\d+", k)],
                                           k.endswith("-only"), -len(k), k))
                  for keys in families.values())


def obvious(key, name):
    """The identifier is a word of the name: nothing to learn."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return all(part in words for part in re.split(r"[^a-z0-9]+", VERSION.sub("", key).lower()))


def facts(folder):
    path = os.path.join(folder, "spdx-license-list", "spdx-full.json")
    with open(path, encoding="utf-8") as source:
        licenses = json.load(source)
    usable = [key for key in newest(licenses)
              if publisher(licenses[key]) and PLAIN.fullmatch(readable(licenses[key]))
              and len(readable(licenses[key]).split()) <= 8]
    found = []
    for key in usable:
        name, who = readable(licenses[key]), publisher(licenses[key])
        text = clean(licenses[key].get("licenseText") or "")
        place, holder = governing_law(text), HOLDER.search(text)
        if not obvious(key, name):
            found.append(Fact("identifier", name, key, who))
            found.append(Fact("name", key, name, who))
        if place:
            found.append(Fact("law", name, place, who))
        if holder and "Licen" not in holder.group(1) \
                and holder.group(1).lower() not in name.lower():
            found.append(Fact("holder", name, holder.group(1), who))
    order = ("law", "holder", "identifier", "name")
    return without_small(square_root_share(
        found, lambda f: f.contributor, lambda f: (order.index(f.relation), f.subject), 8), 6)
