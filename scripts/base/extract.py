"""Reads packages and gives documents: extract(folders) yields (name, text), paragraphs separated by
blank lines. What a text says is left alone; markup, apparatus and code are not taken over.
"""
import html
import html.parser
import json
import os
import re
import struct
import zlib
import gzip

BLANK_LINES = re.compile(r"\n[ \t]*\n")


def files_of(folders, pattern):
    """Paths below the folders that match, sorted."""
    found = []
    for folder in folders:
        for parent, _, names in os.walk(folder):
            found += [os.path.join(parent, name) for name in names]
    return sorted(path for path in found if re.search(pattern, path))


def read(path):
    opener = gzip.open if path.endswith((".dz", ".gz")) else open
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def unwrap(text):
    return " ".join(text.split())


def name_of(path):
    return os.path.splitext(os.path.basename(path))[0]


# ---- dictionaries ----

PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}


def synsets(folders):
    """WordNet's meanings: dicts of id, pos, words, gloss, examples and pointers [(kind, id)]."""
    for path in files_of(folders, r"/data\.(noun|verb|adj|adv)$"):
        for line in open(path, encoding="utf-8"):
            if line.startswith("  "):
                continue
            fields, _, gloss = line.partition(" | ")
            fields = fields.split()
            count = int(fields[3], 16)
            words = [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4:4 + 2 * count:2]]
            at = 4 + 2 * count
            pointers = [(fields[at + 1 + 4 * i], fields[at + 3 + 4 * i] + fields[at + 2 + 4 * i])
                        for i in range(int(fields[at]))]
            examples = re.findall(r'"([^"]+)"', gloss)
            meaning = re.sub(r'[;,:]?\s*-?\s*"[^"]*"(\s*-\s*[\w. ]+)?', "", gloss).strip(" ;:,\n")
            yield {"id": fields[2] + fields[0], "pos": PARTS_OF_SPEECH[fields[2]], "words": words,
                   "gloss": meaning, "examples": examples, "pointers": pointers}


def sentence(text):
    text = text.strip()
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?\"" else text + "."


def article(noun):
    return "an " + noun if noun[0] in "aeiouAEIOU" else "a " + noun


def wordnet(folders):
    """A few sentences a meaning, in one of four forms."""
    everything = {s["id"]: s for s in synsets(folders)}
    for s in everything.values():
        words, gloss = s["words"], s["gloss"]
        if not gloss:
            continue
        kinds = [everything[i]["words"][0] for kind, i in s["pointers"]
                 if kind in ("@", "@i") and i in everything]
        form = zlib.crc32(s["id"].encode()) % 4
        if form == 0:
            text = "%s (%s): %s" % (words[0], s["pos"], sentence(gloss))
        elif form == 1:
            text = "%s means %s" % (words[0], gloss.rstrip(".") + ".")
        elif form == 2:
            text = "The %s \"%s\" means: %s" % (s["pos"], words[0], sentence(gloss))
        else:
            text = "%s. That is what %s means." % (sentence(gloss).rstrip("."), words[0])
        if len(words) > 1:
            text += " Another word for it is %s." % " or ".join(words[1:3])
        if kinds and s["pos"] == "noun" and form != 1:
            text += " %s is a kind of %s." % (sentence(words[0]).rstrip("."), kinds[0])
        for example in s["examples"][:2]:
            text += " " + sentence(example)
        yield s["id"], text


def dict_entries(path):
    """A dictd database as (headword, body): an entry begins with a line that is not indented."""
    head, body = None, []
    for line in read(path).split("\n"):
        if line and not line[0].isspace():
            if head is not None:
                yield head, "\n".join(body)
            head, body = line, []
        else:
            body.append(line)
    if head is not None:
        yield head, "\n".join(body)


GCIDE_PARTS = [("v. t.", "verb"), ("v. i.", "verb"), ("v.", "verb"), ("n.", "noun"),
               ("adv.", "adverb"), ("a.", "adjective"), ("prep.", "preposition"),
               ("conj.", "conjunction"), ("interj.", "exclamation"), ("pron.", "pronoun")]
GCIDE_LETTERS = {"ae": "ae", "AE": "Ae", "oe": "oe", "deg": " degrees", "'e": "e", "e'": "e",
                 "`e": "e", "e^": "e", "eacute": "e", "root": "the root of ", "frac12": "1/2",
                 "frac14": "1/4", "frac34": "3/4", "pound": "pounds ", "times": "x", "prime": "'",
                 "sharp": "sharp", "flat": "flat", "Prime": "''", "mdash": " - ", "a^": "a"}


def drop_brackets(text):
    """Letters in brackets become letters; etymologies, sources and marks go, nested or not."""
    text = re.sub(r"\[([^\[\] ]{1,7})\]", lambda m: GCIDE_LETTERS.get(m.group(1), m.group(0)), text)
    while True:
        shorter = re.sub(r"\s*\[[^\[\]]*\]", "", text)
        if shorter == text:
            return text
        text = shorter


def gcide_paragraph(text):
    """One paragraph of a meaning as prose, or "" for what is not wanted: obsolete senses,
    quotations, cross-references, plural and participle tables."""
    if re.search(r"\[(Obs|R|Archaic|Scot|Prov)\b", text) or re.search(r"--\s*[A-Z]", text):
        return ""
    text = re.sub(r"[{}]", "", unwrap(drop_brackets(text)))
    text = re.sub(r"^[;,:]?\s*(pl|comp|superl)\.[^.]*\.\s*", "", text)
    text = re.sub(r"^\d+\.\s*|^\([a-z]\)\s*", "", text)
    text = re.sub(r"^(\([A-Z][\w. &,]*\.\)\s*)+", "", text)
    if re.match(r"(Syn|Note|See|Cf|Same as|imp\.)\b", text) or text.endswith(("See", "Same as")):
        return ""
    return text


def gcide(folders):
    for path in files_of(folders, r"gcide\.dict\.dz$"):
        for number, (head, body) in enumerate(dict_entries(path)):
            first, *rest = BLANK_LINES.split(head + "\n" + body)
            found = re.match(r"(.+?)\s*\\[^\\]*\\\s*[(,]?\s*(.*)", drop_brackets(unwrap(first)))
            if not found or re.search(r"\[Obs", first):
                continue
            word, tail = found.group(1).strip(), found.group(2)
            part = next((name for mark, name in GCIDE_PARTS if tail.startswith(mark)), None)
            if not part or re.search(r"[^A-Za-z' -]", word):
                continue
            tail = tail[tail.index(".") + 1:]
            tail = re.sub(r"^(\s*[tin]\.)*", "", re.sub(r"^.*?\]\s*", "", tail))
            senses = [gcide_paragraph(tail)] + [gcide_paragraph(p) for p in rest]
            senses = [sentence(s) for s in senses if len(s) > 12]
            if senses:
                yield "%s-%d" % (word, number), "%s (%s): %s" % (word, part, " ".join(senses[:6]))


def elements(folders):
    for path in files_of(folders, r"elements\.dict\.dz$"):
        for entry in BLANK_LINES.split(read(path)):
            lines = entry.strip().split("\n")
            facts = dict(line.split(": ", 1) for line in lines[1:4] if ": " in line)
            if set(facts) != {"Symbol", "Atomic number", "Atomic weight"}:
                continue
            name = lines[0]
            yield name, ("%s is a chemical element. Its symbol is %s, its atomic number is %s and "
                         "its atomic weight is %s. %s" % (
                             name.capitalize(), facts["Symbol"], facts["Atomic number"],
                             facts["Atomic weight"],
                             unwrap(re.sub(r"[{}]", "", " ".join(lines[4:])))))


def plain_entry(head, body):
    text = re.sub(r"[{}]", "", body)
    paragraphs = [unwrap(p) for p in BLANK_LINES.split(text)]
    if paragraphs and re.fullmatch(r"((n|v|vt|vi|adj|adv|interj|excl|abbrev|quant|poss|prov)\.,?"
                                   r"( obs\.| rare\.)?\s*)+", paragraphs[0]):
        paragraphs.pop(0)
    return "\n\n".join([head + ": " + paragraphs[0]] + paragraphs[1:]) if paragraphs else ""


def jargon(folders):
    for path in files_of(folders, r"jargon\.dict\.dz$"):
        for number, (head, body) in enumerate(dict_entries(path)):
            body = re.sub(r"/[^/\n]{1,40}/,?|\[[^\[\]]*\]", "", body)
            if number > 5:
                yield "%d" % number, plain_entry(head, body.strip("\n"))


def devil(folders):
    for path in files_of(folders, r"devil\.dict\.dz$"):
        for number, entry in enumerate(BLANK_LINES.split(read(path))):
            found = re.match(r"([A-Z][A-Z' -]+), (n|adj|v\.[ti]|adv|pp)\.\s+(.*)", entry, re.S)
            if found:
                yield "%d" % number, "%s: %s" % (found.group(1).capitalize(),
                                                 unwrap(re.sub(r"[{}]|\[[^]]*\]", "", found.group(3))))


# ---- books ----

def austen(folders):
    """R keeps the novels as vectors of lines in chunks of zlib: a length, then R's serialisation."""
    for path in files_of(folders, r"/data/Rdata\.rdb$"):
        data, at, number = open(path, "rb").read(), 0, 0
        while at < len(data):
            stream = zlib.decompressobj()
            raw = stream.decompress(data[at + 4:])
            at = len(data) - len(stream.unused_data)
            lines = []
            for found in re.finditer(rb"\x00[\x04\x00]\x00\x09(....)", raw, re.S):
                size = struct.unpack(">i", found.group(1))[0]
                if 0 <= size < 500:
                    lines.append(raw[found.end():found.end() + size].decode("utf-8", "replace"))
            chapters = re.split(r"\n(?=(?:CHAPTER|Chapter) [IVXLC\d]+)", "\n".join(lines))
            for chapter in chapters:
                paragraphs = [unwrap(p) for p in BLANK_LINES.split(chapter)]
                yield "%d" % number, "\n\n".join(paragraphs)
                number += 1


def shorter(paragraph, size=700):
    """A speech that came without paragraphs, cut where a sentence ends."""
    part = ""
    for sentence_of in re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph):
        if part and len(part) + len(sentence_of) > size:
            yield part
            part = ""
        part += " " + sentence_of if part else sentence_of
    if part:
        yield part


def plain_texts(folders):
    for path in files_of(folders, r"/data/.*\.txt$"):
        yield name_of(path), "\n\n".join(part for p in BLANK_LINES.split(read(path))
                                         for part in shorter(unwrap(p)))


def bible(folders):
    """SWORD's zText: .bzs has offset, size and unpacked size of each book in .bzz."""
    for path in files_of(folders, r"\.bzs$"):
        index, data = open(path, "rb").read(), open(path[:-1] + "z", "rb").read()
        for book in range(len(index) // 12):
            begin, size, _ = struct.unpack_from("<III", index, 12 * book)
            text = zlib.decompress(data[begin:begin + size]).decode("utf-8", "replace")
            text = re.sub(r"<note\b.*?</note>|<title\b.*?</title>", "", text, flags=re.S)
            text = re.sub(r'<div [^>]*type="x-p"[^>]*>|<lg\b[^>]*>', "\n\n", text)
            for number, chapter in enumerate(re.split(r"<chapter [^>]*sID", text)):
                chapter = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"^[^>]*>", "", chapter)))
                paragraphs = [unwrap(p) for p in BLANK_LINES.split(chapter)]
                yield "%s-%d-%d" % (name_of(path), book, number), "\n\n".join(paragraphs)


FACTBOOK_SECTIONS = ["Introduction", "Geography", "People and Society", "Government", "Energy",
                     "Communications", "Transportation", "Military", "Transnational Issues"]


def factbook_countries(folders):
    """(name, {section: {key: text or {key: text}}}) of every country."""
    for path in files_of(folders, r"/package/[a-z-]+/[a-z]{2}\.json$"):
        data = json.loads(read(path))
        names = data.get("Government", {}).get("Country name", {})
        name = names.get("conventional short form", {}).get("text", "")
        if not name or name == "none":
            name = names.get("conventional long form", {}).get("text", "")
        name = re.split(r"[;(]", name)[0].strip()
        if name and name != "none":
            yield name, data


def factbook(folders):
    for country, data in factbook_countries(folders):
        for section in FACTBOOK_SECTIONS:
            lines = []
            for key, value in data.get(section, {}).items():
                parts = [(key, value)] if "text" in value else \
                    [("%s, %s" % (key, k), v) for k, v in value.items()]
                for label, part in parts:
                    text = part.get("text") if isinstance(part, dict) else None
                    text = text or ""
                    if len(text) > 200:
                        lines.append(text)
                    elif text and text != "NA":
                        lines.append("%s of %s: %s" % (label, country, sentence(text)))
            yield "%s/%s" % (country, section), "\n\n".join(["%s: %s" % (country, section)] + lines)


# ---- games ----

def wesnoth(folders):
    for path in files_of(folders, r"/campaigns/.*\.cfg$"):
        paragraphs = []
        for found in re.finditer(r'(?:speaker\s*=\s*(\w+)[^\[]*?)?\b(message|story|description|text)'
                                 r'\s*=\s*_\s*"((?:[^"]|"")*)"', read(path)):
            speaker, text = found.group(1), found.group(3).replace('""', '"')
            text = unwrap(re.sub(r"<[^>]*>|\$\w+", "", text))
            if speaker and speaker not in ("narrator", "unit", "second_unit"):
                text = "%s: %s" % (speaker.replace("_", " "), text)
            if len(text) > 25:
                paragraphs.append(text)
        yield os.path.relpath(path, folders[0]), "\n\n".join(paragraphs)


def endless_sky(folders):
    for path in files_of(folders, r"/data/.*\.txt$"):
        for number, block in enumerate(re.split(r"\n(?=\S)", read(path))):
            found = re.findall(r'`\s*([^`]{30,})`|description "([^"]{30,})"', block)
            if found:
                yield "%s-%d" % (name_of(path), number), \
                    "\n\n".join(unwrap(re.sub(r"<\w+>", "it", a or b)) for a, b in found)


def crawl(folders):
    for path in files_of(folders, r"/dat/(descript|database)/\w+\.txt$"):
        for number, entry in enumerate(re.split(r"^%%%%\n", read(path), flags=re.M)):
            entry = re.sub(r"^#.*\n", "", entry, flags=re.M)
            key, _, text = entry.strip().partition("\n")
            if not re.search(r"\{\{|@|<\w|_suffix|^w:|VISUAL|__", entry) and text.strip():
                paragraphs = [unwrap(p) for p in BLANK_LINES.split(text.strip())]
                yield "%s-%d" % (name_of(path), number), \
                    "\n\n".join(["%s: %s" % (key, paragraphs[0])] + paragraphs[1:])


def crossfire(folders):
    for path in files_of(folders, r"/crossfire/maps/[^.]*$"):
        texts = []
        for block in re.findall(r"^msg\n(.*?)\nendmsg$", read(path), re.M | re.S):
            if re.search(r"^(Creator|Date|Author|Modified|Email):", block, re.M | re.I):
                continue
            block = re.sub(r"^@.*$|^\*.*$", "\n", block, flags=re.M)
            block = re.sub(r"\[/?\w+(=[^\]]*)?\]", "", block)
            texts += [unwrap(p) for p in BLANK_LINES.split(block)]
        yield os.path.relpath(path, folders[0]), "\n\n".join(t for t in texts if len(t) > 40)


def freeciv(folders):
    for path in files_of(folders, r"\.ruleset$|helpdata\.txt$|/README\.\w+$"):
        texts = re.findall(r'_\("((?:[^"\\]|\\.)*)"\)', read(path), re.S)
        texts = [unwrap(t.replace("\\\n", "").replace("\\n", "\n").replace('\\"', '"'))
                 for t in texts]
        yield os.path.relpath(path, folders[0]), "\n\n".join(t for t in texts if len(t) > 60)


def colobot(folders):
    for path in files_of(folders, r"\.E\.txt$"):
        text = re.sub(r"^\\[cs];.*$", "", read(path), flags=re.M)
        text = re.sub(r"\\u\s+[^;\s]*;?|\\\w+;|\\\w\s*", "", text)
        yield os.path.relpath(path, folders[0]), \
            "\n\n".join(unwrap(p) for p in text.split("\n") if p.strip())


# ---- manuals ----

class Pages(html.parser.HTMLParser):
    """The text of a page's paragraphs and headings."""
    BLOCKS = {"p", "h1", "h2", "h3", "h4", "li", "dd", "dt"}
    SKIPPED = {"script", "style", "pre", "nav", "header", "footer", "table", "aside", "button",
               "select", "noscript", "code", "head"}
    EMPTY = {"link", "meta", "br", "img", "hr", "input", "base"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs, self.words, self.skip = [], [], []

    def flush(self):
        text = unwrap("".join(self.words))
        self.words = []
        if text:
            self.paragraphs.append(text)

    def handle_starttag(self, tag, attrs):
        if tag in self.EMPTY:
            return
        classes = dict(attrs).get("class") or ""
        if self.skip:
            if tag == self.skip[0]:
                self.skip.append(tag)
        elif tag in self.SKIPPED and not (tag == "code" and self.words) or \
                re.search(r"navheader|navfooter|sphinxsidebar|related|toc\b|howtoget|highlight",
                          classes):
            self.flush()
            self.skip = [tag]
        elif tag in self.BLOCKS:
            self.flush()

    def handle_endtag(self, tag):
        if self.skip:
            if tag == self.skip[0]:
                self.skip.pop()
        elif tag in self.BLOCKS:
            self.flush()

    def handle_data(self, data):
        if not self.skip:
            self.words.append(data)


def page_text(text):
    parser = Pages()
    parser.feed(re.sub(r"&(?!amp;|lt;|gt;|quot;|apos;|#|nbsp;|mdash;|ndash;|rsquo;|lsquo;)"
                       r"([A-Za-z][\w.-]*);", r"\1", text))
    parser.close()
    parser.flush()
    return "\n\n".join(p for p in parser.paragraphs if len(p) > 3 and p != "\u00b6")


def web_pages(folders):
    """English pages; of a manual that comes as one page and as many, the many."""
    for path in files_of(folders, r"^(?!.*/(?!en\b)[a-z]{2}(?:-[A-Z]{2})?/).*(?<!index)(?<!genindex)"
                                  r"(?<!\.[a-z][a-z])(?<!_[A-Z]{2})\.html(\.gz)?$"):
        name = os.path.relpath(path, folders[0])
        if not re.search(r"license|copyright|gpl|gfdl|changelog|whatsnew|genindex|py-modindex|"
                         r"/legal|bibliography|glossary-license|sbasic|/c-api/", name, re.I):
            yield name, page_text(read(path).replace("\u00b6", ""))
