/* Data cards: what the people behind a source allow; and which licences do not go together. */
#include "train/record_internal.h"

#include "base/file.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char card_tail[] = ".card.json";

bool ol_is_card_name(const char *name)
{
	const size_t length = strlen(name), tail = sizeof card_tail - 1;
	return strcmp(name, card_tail + 1) == 0 ||
	       (length > tail && strcmp(name + length - tail, card_tail) == 0);
}

/* A text of the card, kept by the records; absent: NULL. */
static enum ol_status card_text(const char **text_out, struct ol_records *records,
				const json_t *object, const char *key, const char *path,
				struct ol_error *err)
{
	const json_t *value = json_object_get(object, key);
	*text_out = NULL;
	if (!value || json_is_null(value))
		return OL_OK;
	if (!json_is_string(value) || json_string_length(value) == 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: field \"%s\" is not a text: give one, or leave it out", path,
			       key);
	*text_out = ol_records_name(records, json_string_value(value), json_string_length(value));
	return *text_out ? OL_OK : ol_fail(err, OL_ERR_FULL, "out of memory for %s", path);
}

static enum ol_status card_terms(struct ol_data_card *card, const json_t *terms, const char *path,
				 struct ol_error *err)
{
	const char *key;
	json_t *value;
	if (!terms)
		return OL_OK;
	if (!json_is_object(terms))
		return ol_fail(err, OL_ERR_INPUT,
			       "%s: field \"terms\" is not an object: write {\"train\": true, "
			       "\"export\": true, \"commercial\": false}",
			       path);
	json_object_foreach((json_t *)(uintptr_t)terms, key, value)
	{
		bool *term = strcmp(key, "train") == 0        ? &card->train
			     : strcmp(key, "export") == 0     ? &card->export_
			     : strcmp(key, "commercial") == 0 ? &card->commercial
							      : NULL;
		/* A term that is misspelt must not be lost. */
		if (!term)
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: terms have no field \"%s\": use train, export and "
				       "commercial",
				       path, key);
		if (!json_is_boolean(value))
			return ol_fail(err, OL_ERR_INPUT,
				       "%s: field \"terms.%s\" is neither true nor false", path,
				       key);
		*term = json_is_true(value);
	}
	return OL_OK;
}

enum ol_status ol_data_card_parse(struct ol_data_card *card, struct ol_records *records,
				  const char *json, size_t size, const char *path,
				  struct ol_error *err)
{
	json_error_t where;
	*card = (struct ol_data_card){.train = true, .export_ = true, .commercial = true};
	if (size > OL_DATA_CARD_MAX)
		return ol_fail(err, OL_ERR_FULL,
			       "%s is larger than a data card's limit of %d bytes", path,
			       OL_DATA_CARD_MAX);
	json_t *object = json_loadb(json ? json : "", size, JSON_REJECT_DUPLICATES, &where);
	if (!object)
		return ol_fail(err, OL_ERR_INPUT, "%s:%d: the data card is not JSON: %s", path,
			       where.line, where.text);
	enum ol_status s =
		json_is_object(object)
			? OL_OK
			: ol_fail(err, OL_ERR_INPUT, "%s: a data card is one JSON object", path);
	if (s == OL_OK)
		s = card_text(&card->license, records, object, "license", path, err);
	if (s == OL_OK)
		s = card_text(&card->attribution, records, object, "attribution", path, err);
	if (s == OL_OK)
		s = card_text(&card->contributor, records, object, "contributor", path, err);
	if (s == OL_OK)
		s = card_terms(card, json_object_get(object, "terms"), path, err);
	json_decref(object);
	return s;
}

enum ol_status ol_data_card_find(struct ol_data_card *card, struct ol_records *records,
				 const char *file, struct ol_error *err)
{
	char path[PATH_MAX];
	const char *slash = strrchr(file, '/');
	const int folder = slash ? (int)(slash - file) + 1 : 0;
	const char *dot = strrchr(file + folder, '.');
	const int stem = dot && dot > file + folder ? (int)(dot - file) : (int)strlen(file);
	const struct {
		int length;
		const char *tail;
	} places[] = {{(int)strlen(file), card_tail}, {stem, card_tail}, {folder, card_tail + 1}};
	*card = (struct ol_data_card){.train = true, .export_ = true, .commercial = true};
	for (size_t i = 0; i < OL_ARRAY_LEN(places); i++) {
		struct ol_map map;
		const int n = snprintf(path, sizeof path, "%.*s%s", places[i].length, file,
				       places[i].tail);
		if (n < 0 || (size_t)n >= sizeof path || access(path, F_OK) != 0)
			continue;
		enum ol_status s = ol_map_open(&map, path, err);
		if (s != OL_OK)
			return s;
		s = ol_data_card_parse(card, records, (const char *)map.data, map.size, path, err);
		ol_map_close(&map);
		return s;
	}
	return OL_OK;
}

enum ol_status ol_records_may_train(const struct ol_records *records, struct ol_error *err)
{
	for (int i = 0; i < records->card_count; i++)
		if (!records->cards[i].train)
			return ol_fail(err, OL_ERR_INPUT,
				       "the terms of %s forbid training on it (its data card says "
				       "terms.train is false): leave this source out, or ask its "
				       "owner",
				       records->cards[i].file);
	return OL_OK;
}

/* Licences that ask for themselves (whatever is made of the work must be under the same one, or one
 * of those that accept it), and those that add a restriction which the others forbid. */
enum family {
	FAMILY_NONE,
	FAMILY_GPL2,       /* version 2 only                                   */
	FAMILY_GPL2_LATER, /* joins GPL 3 and AGPL 3                             */
	FAMILY_GPL3,
	FAMILY_AGPL3,
	FAMILY_LGPL,
	FAMILY_SA3,
	FAMILY_SA4,
	FAMILY_NC_SA,
	FAMILY_NC, /* not share-alike, but adds a restriction that the others forbid */
	FAMILY_ND, /* no derivatives: goes into nothing that is published   */
	FAMILY_GFDL,
	FAMILY_ODBL
};

static enum family family_of(const char *id, size_t size)
{
	static const struct {
		const char *begin;
		enum family family;
	} rows[] = {
		{"GPL-2.0-only", FAMILY_GPL2},   {"GPL-2.0-or-later", FAMILY_GPL2_LATER},
		{"GPL-2.0+", FAMILY_GPL2_LATER}, {"GPL-2.0", FAMILY_GPL2},
		{"GPL-3.0", FAMILY_GPL3},        {"AGPL-3.0", FAMILY_AGPL3},
		{"LGPL-", FAMILY_LGPL},          {"CC-BY-SA-4.0", FAMILY_SA4},
		{"CC-BY-SA-", FAMILY_SA3},       {"CC-BY-NC-SA-", FAMILY_NC_SA},
		{"CC-BY-NC-ND-", FAMILY_ND},     {"CC-BY-NC-", FAMILY_NC},
		{"CC-BY-ND-", FAMILY_ND},        {"GFDL-", FAMILY_GFDL},
		{"ODbL-", FAMILY_ODBL},
	};
	for (size_t i = 0; i < OL_ARRAY_LEN(rows); i++)
		if (size >= strlen(rows[i].begin) &&
		    strncmp(id, rows[i].begin, strlen(rows[i].begin)) == 0)
			return rows[i].family;
	return FAMILY_NONE;
}

static bool one_of(enum family f, enum family a, enum family b)
{
	return f == a || f == b;
}

static bool families_conflict(enum family a, enum family b)
{
	if (a > b) {
		const enum family c = a;
		a = b;
		b = c;
	}
	if (a == b || a == FAMILY_NONE)
		return b == FAMILY_ND && a != b;
	if (b == FAMILY_ND)
		return true;
	switch (a) {
	case FAMILY_GPL2: return !one_of(b, FAMILY_GPL2_LATER, FAMILY_LGPL);
	case FAMILY_GPL2_LATER:
	case FAMILY_GPL3:
		return !one_of(b, FAMILY_GPL3, FAMILY_AGPL3) && b != FAMILY_LGPL && b != FAMILY_SA4;
	case FAMILY_AGPL3: return b != FAMILY_LGPL;
	case FAMILY_LGPL: return true;
	case FAMILY_SA3: return b != FAMILY_SA4;
	case FAMILY_NC_SA: return b != FAMILY_NC;
	case FAMILY_SA4:
	case FAMILY_NC:
	case FAMILY_GFDL:
	case FAMILY_ODBL:
	case FAMILY_NONE:
	case FAMILY_ND: return true;
	}
	OL_UNREACHABLE();
}

/* The next word of an expression; false at its end. */
static bool next_id(const char **at, const char **id, size_t *size)
{
	const char *p = *at;
	p += strspn(p, " ()");
	*id = p;
	*size = strcspn(p, " ()");
	*at = p + *size;
	return *size > 0;
}

static bool is_word(const char *id, size_t size, const char *word)
{
	return strlen(word) == size && memcmp(id, word, size) == 0;
}

/* "A OR B" may be taken as either, so it conflicts only if each does; "A AND B" if one does. */
bool ol_licenses_conflict(const char *a, const char *b)
{
	const char *at = a, *id;
	size_t size;
	bool any = false, all = true, choice = false;
	if (!a || !b)
		return false;
	if (strpbrk(a, " (") == NULL && strpbrk(b, " (") == NULL)
		return families_conflict(family_of(a, strlen(a)), family_of(b, strlen(b)));
	/* Take the expression apart; the other may be one too, on the next round. */
	const bool split_a = strpbrk(a, " (") != NULL;
	const char *other = split_a ? b : a;
	at = split_a ? a : b;
	while (next_id(&at, &id, &size)) {
		char one[OL_RECORD_NAME_MAX + 1];
		if (is_word(id, size, "OR"))
			choice = true;
		if (is_word(id, size, "WITH"))
			next_id(&at, &id, &size); /* an exception: it only allows more */
		if (is_word(id, size, "OR") || is_word(id, size, "AND") || size >= sizeof one)
			continue;
		memcpy(one, id, size);
		one[size] = '\0';
		const bool conflict = ol_licenses_conflict(one, other);
		any = any || conflict;
		all = all && conflict;
	}
	return choice ? any && all : any;
}

bool ol_records_conflict(const struct ol_records *records, int *a, int *b)
{
	int i = *a, j = *b + 1;
	for (; i < records->card_count; i++, j = i + 1)
		for (; records->cards[i].first && j < records->card_count; j++)
			if (records->cards[j].first &&
			    ol_licenses_conflict(records->cards[i].license,
						 records->cards[j].license)) {
				*a = i;
				*b = j;
				return true;
			}
	return false;
}
