/* Reading an index: nothing in the file is trusted. */
#include "attrib/index.h"
#include "base/bytes.h"

#include "attrib/index_internal.h"
#include "base/file.h"
#include "math/functions.h"
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ol_index {
	struct ol_map map;
	const uint8_t *bytes;
	size_t size;
	char where[256];
	struct ol_index_header header;
	struct ol_index_content content;
	struct ol_index_part *parts;
	struct ol_index_payee *payees;
	struct ol_index_example *examples;
	uint32_t *begin;
};

enum { LAYERS_MAX = 4096, OUTPUTS_MAX = 1 << 20 };

static const uint8_t *section(const struct ol_index *x, enum ol_index_section which)
{
	return x->bytes + x->header.sections[which].offset;
}

static size_t section_bytes(const struct ol_index *x, enum ol_index_section which)
{
	return x->header.sections[which].bytes;
}

static enum ol_status broken(const struct ol_index *x, struct ol_error *err, const char *what)
{
	return ol_fail(err, OL_ERR_INPUT, "%s: %s; build it again with `openledger index`",
		       x->where, what);
}

/* ---- The header ----------------------------------------------------------------------------- */

static bool settings_make_sense(const struct ol_index_header *h)
{
	return h->damping >= 0.0 && h->damping <= 1e6 && h->energy >= 0.0 && h->energy <= 1.0 &&
	       h->span_part < OL_SHARE_WHOLE && h->norm_part <= 1000000 && h->norm_median >= 1 &&
	       h->flags <= OL_INDEX_LOW_CONFIDENCE && h->zero == 0 &&
	       ol_all_zero(h->rest, sizeof h->rest) && h->answer_tokens > 0 &&
	       h->arithmetic[sizeof h->arithmetic - 1] == '\0';
}

static bool counts_make_sense(const struct ol_index_header *h)
{
	return h->parts >= 1 && h->parts <= OL_ROW_PARTS_MAX && h->values >= 1 &&
	       h->values <= OL_ROW_VALUES_MAX && h->payees >= 1 &&
	       h->payees <= OL_INDEX_PAYEES_MAX && h->examples >= 1 &&
	       h->examples <= OL_INDEX_EXAMPLES_MAX && h->vocab >= 1 && h->vocab <= INT32_MAX &&
	       h->token_bytes == (h->vocab <= UINT16_MAX ? 2 : 4) &&
	       h->span_tokens <= OL_SPAN_TOKENS_MAX;
}

/* What the header says the sections that do not depend on the parts must have. */
static bool sizes_match(const struct ol_index_header *h)
{
	const struct ol_index_place *at = h->sections;
	return at[OL_INDEX_PARTS].bytes == h->parts * sizeof(struct ol_index_part_record) &&
	       at[OL_INDEX_PAYEES].bytes == h->payees * sizeof(struct ol_index_payee_record) &&
	       at[OL_INDEX_EXAMPLES].bytes ==
		       h->examples * sizeof(struct ol_index_example_record) &&
	       at[OL_INDEX_PAYEE_ROWS].bytes == (uint64_t)h->payees * h->row_stride &&
	       at[OL_INDEX_EXAMPLE_ROWS].bytes == (uint64_t)h->examples * h->row_stride &&
	       at[OL_INDEX_SKETCHES].bytes == (uint64_t)h->examples * OL_SKETCH_BYTES &&
	       at[OL_INDEX_SPAN_TOKENS].bytes == (uint64_t)h->span_tokens * h->token_bytes &&
	       at[OL_INDEX_SPAN_STARTS].bytes == ((uint64_t)h->examples + 1) * 4 &&
	       at[OL_INDEX_SPAN_COUNTS].bytes == (uint64_t)h->vocab * 4 &&
	       at[OL_INDEX_SPAN_SUFFIXES].bytes == (uint64_t)h->span_tokens * 4;
}

static enum ol_status read_header(struct ol_index *x, struct ol_error *err)
{
	struct ol_index_header *h = &x->header, derived;
	if (x->size < sizeof *h || memcmp(x->bytes, ol_index_magic, sizeof ol_index_magic) != 0)
		return ol_fail(err, OL_ERR_INPUT, "%s is no attribution index", x->where);
	memcpy(h, x->bytes, sizeof *h);
	if (h->version != OL_INDEX_VERSION)
		return ol_fail(err, OL_ERR_UNSUPPORTED,
			       "%s: an index of version %u; this program reads version %d",
			       x->where, h->version, OL_INDEX_VERSION);
	if (!counts_make_sense(h) || !settings_make_sense(h) || !sizes_match(h))
		return broken(x, err, "the header's numbers do not fit together");
	derived = *h;
	for (int i = 0; i < OL_INDEX_SECTIONS; i++)
		if (h->sections[i].bytes > x->size)
			return broken(x, err, "the file is cut short");
	ol_index_lay_out(&derived);
	if (derived.file_bytes != x->size || memcmp(&derived, h, sizeof derived) != 0)
		return broken(x, err, "the sections do not lie where they should");
	for (int i = 0; i < OL_INDEX_SECTIONS; i++) {
		const uint64_t end = h->sections[i].offset + h->sections[i].bytes;
		const uint64_t next =
			i + 1 < OL_INDEX_SECTIONS ? h->sections[i + 1].offset : x->size;
		if (!ol_all_zero(x->bytes + end, next - end))
			return broken(x, err, "there is something between the sections");
	}
	return OL_OK;
}

/* ---- The sections --------------------------------------------------------------------------- */

static bool all_finite(const float *x, size_t n)
{
	bool finite = true;
	for (size_t i = 0; i < n; i++)
		finite = finite && isfinite(x[i]);
	return finite;
}

static bool part_makes_sense(const struct ol_index_part_record *r,
			     const struct ol_index_part_record *before)
{
	const bool after = !before || r->layer > before->layer ||
			   (r->layer == before->layer && r->linear > before->linear);
	return after && r->layer >= 0 && r->layer < LAYERS_MAX && r->linear >= 0 &&
	       r->linear < OL_LAYER_LINEARS && r->outputs >= 1 && r->outputs <= OUTPUTS_MAX &&
	       r->rank >= 1 && r->rank <= OL_RANK_MAX && r->kept >= 1 && r->kept <= r->outputs &&
	       isfinite(r->scale);
}

static enum ol_status read_parts(struct ol_index *x, struct ol_error *err)
{
	const struct ol_index_header *h = &x->header;
	const struct ol_index_part_record *r = (const void *)section(x, OL_INDEX_PARTS);
	const float *outward = (const void *)section(x, OL_INDEX_OUTWARD);
	const float *inward = (const void *)section(x, OL_INDEX_INWARD);
	const float *weight = (const void *)section(x, OL_INDEX_WEIGHT);
	uint64_t outward_left = section_bytes(x, OL_INDEX_OUTWARD) / sizeof(float);
	uint64_t inward_left = section_bytes(x, OL_INDEX_INWARD) / sizeof(float);
	uint64_t values = 0;
	for (uint32_t p = 0; p < h->parts; p++) {
		if (!part_makes_sense(&r[p], p ? &r[p - 1] : NULL))
			return broken(x, err, "a part is not what it should be");
		const uint64_t outs = (uint64_t)r[p].outputs * (uint64_t)r[p].kept;
		const uint64_t ins = (uint64_t)r[p].rank * (uint64_t)r[p].rank;
		const uint64_t own = (uint64_t)r[p].kept * (uint64_t)r[p].rank;
		if (outs > outward_left || ins > inward_left || values + own > h->values)
			return broken(x, err, "the parts are larger than their sections");
		x->parts[p] = (struct ol_index_part){r[p].layer, r[p].linear, r[p].outputs,
						     r[p].rank,  r[p].kept,   r[p].scale,
						     outward,    inward,      weight};
		x->begin[p] = (uint32_t)values;
		outward += outs;
		inward += ins;
		weight += own;
		outward_left -= outs;
		inward_left -= ins;
		values += own;
	}
	x->begin[h->parts] = (uint32_t)values;
	if (outward_left || inward_left || values != h->values ||
	    section_bytes(x, OL_INDEX_WEIGHT) != values * sizeof(float) ||
	    section_bytes(x, OL_INDEX_OUTWARD) % sizeof(float) ||
	    section_bytes(x, OL_INDEX_INWARD) % sizeof(float))
		return broken(x, err, "the parts do not fill their sections");
	if (!all_finite(x->parts[0].outward, section_bytes(x, OL_INDEX_OUTWARD) / sizeof(float)) ||
	    !all_finite(x->parts[0].inward, section_bytes(x, OL_INDEX_INWARD) / sizeof(float)) ||
	    !all_finite(x->parts[0].weight, values))
		return broken(x, err, "a factor is not finite");
	return OL_OK;
}

/* A text of 1 to OL_INDEX_NAME_MAX + 16 bytes inside the names (parts of a conversation have "#2"
 * and so on behind their ids), or NULL. */
static const char *name_at(const struct ol_index *x, uint32_t at)
{
	const size_t size = section_bytes(x, OL_INDEX_NAMES);
	const char *names = (const char *)section(x, OL_INDEX_NAMES);
	if (at >= size)
		return NULL;
	const size_t most = OL_MIN(size - at, (size_t)OL_INDEX_NAME_MAX + 17);
	const size_t length = strnlen(names + at, most);
	return length > 0 && length < most ? names + at : NULL;
}

static enum ol_status read_payees(struct ol_index *x, struct ol_error *err)
{
	const struct ol_index_payee_record *r = (const void *)section(x, OL_INDEX_PAYEES);
	for (uint32_t i = 0; i < x->header.payees; i++) {
		struct ol_index_payee *payee = &x->payees[i];
		uint8_t id[OL_PAYEE_BYTES];
		payee->name = name_at(x, r[i].name_at);
		if (!payee->name || r[i].zero)
			return broken(x, err, "a payee's name is missing");
		ol_payee_id(id, payee->name);
		if (memcmp(id, r[i].id, sizeof id) != 0)
			return broken(x, err, "a payee's id is not that of its name");
		if (i > 0 && memcmp(r[i - 1].id, r[i].id, OL_PAYEE_BYTES) >= 0)
			return broken(x, err, "the payees do not ascend by their ids");
		memcpy(payee->id, id, sizeof id);
		payee->examples = r[i].examples;
		payee->clusters = r[i].clusters;
	}
	return OL_OK;
}

static enum ol_status read_examples(struct ol_index *x, struct ol_error *err)
{
	const struct ol_index_header *h = &x->header;
	const struct ol_index_example_record *r = (const void *)section(x, OL_INDEX_EXAMPLES);
	const uint32_t *starts = (const void *)section(x, OL_INDEX_SPAN_STARTS);
	uint64_t answers = 0;
	for (uint32_t i = 0; i < h->examples; i++) {
		const char *id = name_at(x, r[i].id_at);
		if (!id || r[i].zero || r[i].payee >= h->payees || r[i].cluster > i ||
		    r[r[i].cluster].cluster != r[i].cluster ||
		    !(r[i].clip >= 0.0f && r[i].clip <= 1.0f) || starts[i + 1] <= starts[i] ||
		    r[i].tokens != starts[i + 1] - starts[i] - 1)
			return broken(x, err, "an example is not what it should be");
		x->examples[i] = (struct ol_index_example){
			id, r[i].payee, r[i].cluster, r[i].tokens, r[i].answer_tokens, r[i].clip};
		answers += r[i].answer_tokens;
	}
	if (answers != h->answer_tokens)
		return broken(x, err, "the examples' tokens do not add up");
	return OL_OK;
}

/* Every payee has the examples and clusters that it claims. */
static enum ol_status count_payees(const struct ol_index *x, struct ol_error *err)
{
	const uint32_t payees = x->header.payees;
	uint32_t *counts = calloc(2 * (size_t)payees, sizeof *counts);
	bool good = true;
	if (!counts)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %s", x->where);
	for (uint32_t i = 0; i < x->header.examples; i++) {
		counts[x->examples[i].payee]++;
		counts[payees + x->examples[i].payee] += x->examples[i].cluster == i;
	}
	for (uint32_t i = 0; i < payees; i++)
		good = good && counts[i] == x->payees[i].examples &&
		       counts[payees + i] == x->payees[i].clusters;
	free(counts);
	return good ? OL_OK : broken(x, err, "the payees' examples do not add up");
}

static enum ol_status check_payee_rows(const struct ol_index *x, struct ol_error *err)
{
	const struct ol_index_content *c = &x->content;
	for (uint32_t i = 0; i < c->payee_count; i++)
		if (!ol_row_check(&c->layout, c->payee_rows + (size_t)i * x->header.row_stride))
			return broken(x, err, "a payee's row is not what it should be");
	return OL_OK;
}

static void fill_content(struct ol_index *x)
{
	const struct ol_index_header *h = &x->header;
	struct ol_index_content *c = &x->content;
	memcpy(c->base_id, h->base_id, sizeof c->base_id);
	memcpy(c->adapter_sha256, h->adapter_sha256, sizeof c->adapter_sha256);
	memcpy(c->snapshot_sha256, h->snapshot_sha256, sizeof c->snapshot_sha256);
	memcpy(c->arithmetic, h->arithmetic, sizeof c->arithmetic);
	c->settings = (struct ol_index_settings){.seed = h->seed,
						 .damping = h->damping,
						 .draws = h->draws,
						 .curvature_max = h->curvature_max,
						 .row_bytes = h->row_bytes,
						 .targets = h->targets,
						 .first_layer = h->first_layer,
						 .last_layer = h->last_layer,
						 .norm_part = h->norm_part,
						 .norm_median = h->norm_median,
						 .span_part = h->span_part};
	c->answer_tokens = h->answer_tokens;
	c->energy = h->energy;
	c->low_confidence = h->flags & OL_INDEX_LOW_CONFIDENCE;
	c->parts = x->parts;
	c->layout = (struct ol_row_layout){(int)h->parts, (int)h->values, x->begin};
	c->payees = x->payees;
	c->payee_count = h->payees;
	c->payee_rows = section(x, OL_INDEX_PAYEE_ROWS);
	c->examples = x->examples;
	c->example_count = h->examples;
	c->example_rows = section(x, OL_INDEX_EXAMPLE_ROWS);
	c->sketches = section(x, OL_INDEX_SKETCHES);
	c->spans = (struct ol_span_corpus){
		.token_bytes = (int)h->token_bytes,
		.tokens = section(x, OL_INDEX_SPAN_TOKENS),
		.token_count = h->span_tokens,
		.starts = (const void *)section(x, OL_INDEX_SPAN_STARTS),
		.example_count = h->examples,
		.counts = (const void *)section(x, OL_INDEX_SPAN_COUNTS),
		.vocab = h->vocab,
		.suffixes = (const void *)section(x, OL_INDEX_SPAN_SUFFIXES)};
}

/* ---- Hashes --------------------------------------------------------------------------------- */

/* Sections whose every entry is looked at again when it is used. */
static bool is_deferred(enum ol_index_section which)
{
	return which == OL_INDEX_EXAMPLE_ROWS || which == OL_INDEX_SKETCHES ||
	       which == OL_INDEX_SPAN_SUFFIXES;
}

static enum ol_status check_hashes(const struct ol_index *x, bool all, const uint8_t *wanted,
				   struct ol_error *err)
{
	uint8_t root[OL_SHA256_BYTES];
	ol_index_file_root(root, &x->header);
	bool same = memcmp(root, x->header.root, sizeof root) == 0;
	for (int i = 0; same && i < OL_INDEX_SECTIONS; i++) {
		const enum ol_index_section which = (enum ol_index_section)i;
		uint8_t own[OL_SHA256_BYTES];
		if (!all && is_deferred(which))
			continue;
		ol_index_section_root(own, section(x, which), section_bytes(x, which),
				      ol_index_leaf(&x->header, which));
		same = memcmp(own, x->header.roots[i], sizeof own) == 0;
	}
	if (!same)
		return broken(x, err, "its bytes are not those of its root: it is damaged");
	if (wanted && memcmp(root, wanted, sizeof root) != 0)
		return broken(x, err, "it is not the index that the adapter's manifest names");
	return OL_OK;
}

enum ol_status ol_index_audit(const struct ol_index *x, struct ol_error *err)
{
	const struct ol_index_content *c = &x->content;
	enum ol_status s = check_hashes(x, true, NULL, err);
	uint8_t *row = malloc(x->header.row_stride);
	if (s == OL_OK && !row)
		s = ol_fail(err, OL_ERR_FULL, "out of memory for %s", x->where);
	for (uint32_t i = 0; s == OL_OK && i < c->example_count; i++)
		if (!ol_row_check(&c->layout, c->example_rows + (size_t)i * x->header.row_stride))
			s = broken(x, err, "an example's row is not what it should be");
	for (uint32_t i = 0; s == OL_OK && i < c->payee_count; i++)
		if (!ol_index_payee_row(c, i, row) ||
		    memcmp(row, c->payee_rows + (size_t)i * x->header.row_stride,
			   x->header.row_stride) != 0)
			s = broken(x, err, "a payee's row is not the sum of its examples' rows");
	free(row);
	return s;
}

/* ---- Life ----------------------------------------------------------------------------------- */

static enum ol_status allocate(struct ol_index *x, struct ol_error *err)
{
	const struct ol_index_header *h = &x->header;
	x->parts = calloc(h->parts, sizeof *x->parts);
	x->begin = calloc((size_t)h->parts + 1, sizeof *x->begin);
	x->payees = calloc(h->payees, sizeof *x->payees);
	x->examples = calloc(h->examples, sizeof *x->examples);
	return x->parts && x->begin && x->payees && x->examples
		       ? OL_OK
		       : ol_fail(err, OL_ERR_FULL, "out of memory for %s", x->where);
}

static enum ol_status read_all(struct ol_index *x, const uint8_t *root, struct ol_error *err)
{
	enum ol_status s = read_header(x, err);
	if (s == OL_OK)
		s = allocate(x, err);
	if (s == OL_OK)
		s = read_parts(x, err);
	if (s == OL_OK) {
		const struct ol_row_layout layout = {(int)x->header.parts, (int)x->header.values,
						     x->begin};
		if (ol_row_bytes(&layout) != x->header.row_stride)
			s = broken(x, err, "its rows are not as long as they should be");
	}
	if (s == OL_OK)
		s = read_payees(x, err);
	if (s == OL_OK)
		s = read_examples(x, err);
	if (s == OL_OK)
		s = count_payees(x, err);
	if (s == OL_OK)
		fill_content(x);
	if (s == OL_OK)
		s = check_payee_rows(x, err);
	if (s == OL_OK)
		s = ol_span_corpus_check(&x->content.spans, x->where, err);
	return s == OL_OK ? check_hashes(x, false, root, err) : s;
}

enum ol_status ol_index_open_bytes(struct ol_index **index_out, const uint8_t *bytes, size_t size,
				   const char *where, const uint8_t *root, struct ol_error *err)
{
	struct ol_index *x = calloc(1, sizeof *x);
	*index_out = NULL;
	if (!x)
		return ol_fail(err, OL_ERR_FULL, "out of memory for %s", where);
	OL_ASSERT((uintptr_t)bytes % OL_ROW_ALIGN == 0);
	x->bytes = bytes;
	x->size = size;
	(void)snprintf(x->where, sizeof x->where, "%s", where);
	const enum ol_status s = read_all(x, root, err);
	if (s != OL_OK)
		ol_index_close(x);
	else
		*index_out = x;
	return s;
}

enum ol_status ol_index_open(struct ol_index **index_out, const char *path, const uint8_t *root,
			     struct ol_error *err)
{
	struct ol_map map;
	*index_out = NULL;
	enum ol_status s = ol_map_open(&map, path, err);
	if (s != OL_OK)
		return s;
	s = ol_index_open_bytes(index_out, map.data, map.size, path, root, err);
	if (s == OL_OK)
		(*index_out)->map = map;
	else
		ol_map_close(&map);
	return s;
}

void ol_index_close(struct ol_index *x)
{
	if (!x)
		return;
	free(x->parts);
	free(x->begin);
	free(x->payees);
	free(x->examples);
	if (x->map.data)
		ol_map_close(&x->map);
	free(x);
}

const struct ol_index_content *ol_index_content(const struct ol_index *x)
{
	return &x->content;
}

const uint8_t *ol_index_root(const struct ol_index *x)
{
	return x->header.root;
}

/* ---- Payees' rows --------------------------------------------------------------------------- */

bool ol_index_payee_row(const struct ol_index_content *c, uint32_t payee, void *row_out)
{
	const size_t values = (size_t)c->layout.values, stride = ol_row_bytes(&c->layout);
	double *sums = calloc(values, sizeof *sums);
	float *x = malloc(values * sizeof *x);
	bool good = sums && x;
	for (uint32_t i = 0; good && i < c->example_count; i++) {
		const struct ol_index_example *e = &c->examples[i];
		if (e->payee != payee || e->cluster != i)
			continue;
		ol_row_dequantize(&c->layout, x, c->example_rows + (size_t)i * stride);
		for (size_t v = 0; v < values; v++)
			sums[v] += (double)(x[v] * e->clip);
	}
	for (size_t v = 0; good && v < values; v++)
		x[v] = (float)sums[v];
	good = good && ol_row_quantize(&c->layout, row_out, x);
	free(sums);
	free(x);
	return good;
}
