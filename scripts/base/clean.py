"""Makes documents clean: plain characters, prose only, nothing of the domains that adapters are to
teach, nothing twice."""
import hashlib
import re
import unicodedata
import zlib

CHARACTERS = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u201c": '"',
    "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"', "\u2013": "-", "\u2014": " - ",
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2026": "...", "\u2022": "-", "\u00a0": " ",
    "\u00ad": "", "\ufeff": "", "\u200b": "", "\u2192": "->", "\u00d7": "x",
}
PLAIN = str.maketrans(CHARACTERS)

# The domains of the demonstration (scripts/demo): what an adapter knows of them shall be its
# contributors' merit. A paragraph that touches one is left out.
KEPT_OUT = re.compile("|".join([
    # weaknesses of software
    r"vulnerab", r"\bexploit", r"buffer over", r"overflow attack", r"\binjection\b", r"\bmalware",
    r"cross-site", r"denial[- ]of[- ]service", r"\bsecurity (hole|flaw|bug|issue|patch|update)",
    r"\bCVE\b", r"\bCWE\b", r"privilege escalation", r"\battacker", r"\bcracker",
    # licences
    r"\blicen[cs]", r"copyright", r"\bwarrant(y|ies)\b", r"\bGPL\b", r"\bcopyleft", r"trademark",
    r"public domain", r"\bSPDX\b", r"creative commons", r"all rights reserved", r"redistribut",
    # currencies and the codes of payments
    r"\bcurrenc(y|ies)\b", r"unit of money", r"monetary unit", r"merchant categor", r"legal tender",
    r"\bexchange rate", r"equal to one hundred\w* of a\b", r"\bISO 4217",
]), re.I)
WEB = re.compile(r"https?://|www\.|\S+@\S+\.\S+")
# What surrounds the text of a manual's page, and numbers before its headings.
FURNITURE = re.compile(r"(Prev|Next|Up|Home|Download the ebook|The Debian Administrator's Handbook|"
                       r"Source code:.*|Figure \d.*|Table \d.*|Example \d.*|Chapter \d+)\.?")
NUMBERING = re.compile(r"^(?:(?:Chapter|Appendix) )?[A-Z0-9]+\.(?:\d+\.)*\s+(?=[A-Z])")
LETTER = re.compile(r"[A-Za-z]")
WORD = re.compile(r"[A-Za-z']+")
COMMON = set("the of and to a in is that for it as with be on by or an are at this from you he "
             "his not have was one which they we can will his her but if any who all".split())


def characters(text):
    text = unicodedata.normalize("NFC", text.translate(PLAIN))
    text = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in text)
    return re.sub(r"[ \t]+", " ", text).replace("\ufffd", "")


def is_prose(paragraph):
    """Letters, words of ordinary length, and not a list of names or numbers."""
    size = len(paragraph)
    letters = len(LETTER.findall(paragraph))
    if letters < 0.65 * size or WEB.search(paragraph):
        return False
    words = WORD.findall(paragraph)
    if size < 80:
        return len(words) >= 1
    odd = len(re.findall(r"[<>{}\\|=_^~`#$%&*/\[\]]", paragraph))
    plain = sum(w.lower() in COMMON for w in words)
    return odd < 0.02 * size and plain >= 0.08 * len(words)


def document(text):
    """The clean text, or "" when too little is left. Headings without anything below go too."""
    kept = []
    for paragraph in characters(text).split("\n\n"):
        paragraph = NUMBERING.sub("", paragraph.strip())
        if FURNITURE.fullmatch(paragraph):
            continue
        if not paragraph or KEPT_OUT.search(paragraph) or not is_prose(paragraph):
            continue
        kept.append(paragraph)
    while kept and len(kept[-1]) < 40 and kept[-1][-1] not in ".!?\"'":
        kept.pop()
    text = "\n\n".join(kept)
    return text if len(WORD.findall(text)) >= 6 else ""


class Seen:
    """What has been taken already: paragraphs word for word, and documents almost so.

    Near copies by MinHash: the shingles of five words of a document fall into 64 bins, of each bin
    the least hash counts (one permutation hashing, Li et al. 2012). Documents that agree in one of
    16 bands of 4 bins are compared; of two that agree in 70% of their bins, the later goes."""
    BINS, BAND, ALIKE, SHINGLE, SHORT = 64, 4, 0.7, 5, 30

    def __init__(self):
        self.paragraphs, self.bands, self.sketches = set(), {}, []

    def sketch(self, words):
        least = [0] * self.BINS
        for i in range(len(words) - self.SHINGLE + 1):
            h = zlib.crc32(" ".join(words[i:i + self.SHINGLE]).encode())
            k, h = h % self.BINS, (h // self.BINS) + 1
            if not least[k] or h < least[k]:
                least[k] = h
        return least

    def is_near_copy(self, words):
        sketch = self.sketch(words)
        keys = [(b, tuple(sketch[b:b + self.BAND])) for b in range(0, self.BINS, self.BAND)
                if all(sketch[b:b + self.BAND])]
        for number in {n for key in keys for n in self.bands.get(key, ())}:
            other = self.sketches[number]
            same = sum(a == b for a, b in zip(sketch, other) if a or b)
            if same >= self.ALIKE * sum(1 for a, b in zip(sketch, other) if a or b):
                return True
        for key in keys:
            self.bands.setdefault(key, []).append(len(self.sketches))
        self.sketches.append(sketch)
        return False

    def new_part(self, text):
        """The paragraphs that were not there before; "" when the rest is a near copy."""
        kept = []
        for paragraph in text.split("\n\n"):
            if len(paragraph) >= 40:
                key = hashlib.blake2b(" ".join(WORD.findall(paragraph.lower())).encode(),
                                      digest_size=8).digest()
                if key in self.paragraphs:
                    continue
                self.paragraphs.add(key)
            kept.append(paragraph)
        text = "\n\n".join(kept)
        words = WORD.findall(text.lower())
        if len(words) < 6 or len(words) >= self.SHORT and self.is_near_copy(words):
            return ""
        return text
