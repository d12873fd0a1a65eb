#!/usr/bin/python3
"""Writes src/model/template_unicode.c from Python's own Unicode tables, so that upper(), lower(),
strip() and repr() in a chat template do what they do where the template was written.

    /usr/bin/python3 tests/oracle/chat_template/make_unicode.py > src/model/template_unicode.c
"""
import sys
import unicodedata

LAST = 0x10FFFF
CHARS = [c for c in range(LAST + 1) if not 0xD800 <= c <= 0xDFFF]


def case_ranges(convert):
    """[first, last, stride, delta] over the characters that convert to one other character."""
    pairs = [(c, ord(convert(chr(c))) - c) for c in CHARS if len(convert(chr(c))) == 1 and convert(chr(c)) != chr(c)]
    ranges = []
    for c, delta in pairs:
        if ranges and ranges[-1][3] == delta:
            first, last, stride, _ = ranges[-1]
            step = c - last
            if step <= 2 and (stride == step or first == last):
                ranges[-1] = [first, c, step, delta]
                continue
        ranges.append([c, c, 1, delta])
    return ranges


def runs(test):
    out = []
    for c in range(LAST + 1):
        if test(c):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return out


def table(declaration, rows, width=96):
    print(declaration + " = {")
    line = "\t"
    for row in rows:
        cell = "{" + ", ".join(str(x) if i >= 2 else hex(x) for i, x in enumerate(row)) + "}, "
        if len(line) - 1 + 8 + len(cell) > width:
            print(line.rstrip())
            line = "\t"
        line += cell
    print(line.rstrip() + "\n};\n")


print(f"""/* template_unicode.c: written by tests/oracle/chat_template/make_unicode.py; do not edit. */
/* Unicode {unicodedata.unidata_version} as Python has it: white space, printable characters, case. */
#include "model/template_internal.h"

struct run {{
	uint32_t first, last;
}};

/* Every stride-th character from first to last becomes itself + delta. */
struct case_run {{
	uint32_t first, last;
	int32_t stride, delta;
}};

/* A character that becomes up to three. */
struct expansion {{
	uint32_t from, to[3];
}};
""")
table("static const struct run spaces[]", runs(lambda c: chr(c).isspace()))
table("static const struct run unprintable[]", runs(lambda c: not chr(c).isprintable()))
table("static const struct case_run uppers[]", case_ranges(str.upper))
table("static const struct case_run lowers[]", case_ranges(str.lower))


def expansions(name, convert, wanted):
    print(f"static const struct expansion {name}[] = {{")
    line = "\t"
    for c in CHARS:
        if wanted(chr(c)):
            cell = "{" + hex(c) + ", {" + ", ".join(hex(ord(x)) for x in convert(chr(c))) + "}}, "
            if len(line) + 7 + len(cell) > 96:
                print(line.rstrip())
                line = "\t"
            line += cell
    print(line.rstrip() + "\n};\n")


expansions("uppers_many", str.upper, lambda c: len(c.upper()) > 1)
expansions("titles", str.title, lambda c: c.title() != c.upper())
sys.stdout.write("""static bool in_runs(const struct run *runs, size_t count, uint32_t character)
{
	size_t low = 0, high = count;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		if (character > runs[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && character >= runs[low].first;
}

static uint32_t convert(const struct case_run *runs, size_t count, uint32_t character)
{
	size_t low = 0, high = count;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		if (character > runs[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == count || character < runs[low].first ||
	    (character - runs[low].first) % (uint32_t)runs[low].stride)
		return character;
	return (uint32_t)((int32_t)character + runs[low].delta);
}

bool ol_tpl_is_space(uint32_t character)
{
	return in_runs(spaces, OL_ARRAY_LEN(spaces), character);
}

bool ol_tpl_is_printable(uint32_t character)
{
	return !in_runs(unprintable, OL_ARRAY_LEN(unprintable), character);
}

uint32_t ol_tpl_to_upper(uint32_t character)
{
	return convert(uppers, OL_ARRAY_LEN(uppers), character);
}

uint32_t ol_tpl_to_lower(uint32_t character)
{
	return convert(lowers, OL_ARRAY_LEN(lowers), character);
}

static const uint32_t *expand(const struct expansion *table, size_t count, uint32_t character)
{
	size_t low = 0, high = count;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		if (character > table[middle].from)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && table[low].from == character ? table[low].to : NULL;
}

const uint32_t *ol_tpl_upper_expansion(uint32_t character)
{
	return expand(uppers_many, OL_ARRAY_LEN(uppers_many), character);
}

const uint32_t *ol_tpl_title_expansion(uint32_t character)
{
	return expand(titles, OL_ARRAY_LEN(titles), character);
}
""")
