/* Attacks on pay, in a world whose true game can be computed.
 *
 * The model is ridge regression on random features, lightly trained (a strong ridge);
 * 8 contributors have a topic each, questions come from all topics. Gradients are
 * -residual * features: the rows of an index are made of them, then everything is the product's
 * own code: 8 bits, sketches, clusters, payees' rows, scores of an epoch of questions, net positive
 * parts. Shapley values come from training all 2^8 coalitions. The bounds: docs/PAYOUT.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attrib/clusters.h"
#include "attrib/fidelity.h"
#include "attrib/index.h"
#include "math/functions.h"

enum {
	GIVERS = 8,
	EACH = 24,
	FEATURES = 1024,
	QUESTIONS = 96,
	HONEST = GIVERS * EACH,
	MOST = HONEST + 101 * EACH, /* examples with an attack's */
	WORDS = 40,
	ACCOUNTS_MAX = 256
};
static const double RIDGE = 3000.0, NOISE = 1.0;
static const uint32_t begin[] = {0, FEATURES};
static const struct ol_row_layout layout = {1, FEATURES, begin};

struct example {
	float x[FEATURES];
	double y;
	int account;
	int32_t words[WORDS];
};

struct world {
	struct example *examples; /* (MOST) */
	int count;
	float questions[QUESTIONS][FEATURES];
	double answers[QUESTIONS];
};

static uint32_t dice_state[2];
static double uniform(void)
{
	const uint32_t counter[4] = {dice_state[0]++, dice_state[1], 4, 0}, key[2] = {8, 9};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return 2.0 * ol_unit_double(out[0]) - 1.0;
}

/* ---- The world ------------------------------------------------------------------------------ */

static float topics[GIVERS][FEATURES], truth[FEATURES];

static double value_of(const float *x)
{
	double sum = 0.0;
	for (int f = 0; f < FEATURES; f++)
		sum += (double)x[f] * truth[f];
	return sum;
}

static void draw_features(float *x, int topic)
{
	for (int f = 0; f < FEATURES; f++)
		x[f] = topics[topic][f] + (float)uniform();
}

static void open_world(struct world *w, uint32_t seed)
{
	dice_state[0] = 0;
	dice_state[1] = seed;
	w->examples = calloc(MOST, sizeof *w->examples);
	w->count = 0;
	for (int f = 0; f < FEATURES; f++) {
		truth[f] = (float)uniform();
		for (int t = 0; t < GIVERS; t++)
			topics[t][f] = (float)uniform() * (0.6f + 0.1f * (float)t);
	}
	/* Every topic has something to tell. */
	for (int t = 0; t < GIVERS; t++) {
		const double wanted = (20.0 + 2.0 * t) * (t % 2 ? 1.0 : -1.0);
		const double more = (wanted - value_of(topics[t])) / value_of(truth);
		for (int f = 0; f < FEATURES; f++)
			topics[t][f] += (float)more * truth[f];
	}
	for (int i = 0; i < HONEST; i++) {
		struct example *e = &w->examples[w->count++];
		draw_features(e->x, i % GIVERS);
		e->y = value_of(e->x) + NOISE * uniform();
		e->account = i % GIVERS;
		for (int k = 0; k < WORDS; k++)
			e->words[k] = (int32_t)((uniform() + 1.0) * 500.0);
	}
	for (int q = 0; q < QUESTIONS; q++) {
		draw_features(w->questions[q], q % GIVERS);
		w->answers[q] = value_of(w->questions[q]);
	}
}

static struct example *add(struct world *w, const struct example *like, int account)
{
	assert_true(w->count < MOST);
	struct example *e = &w->examples[w->count++];
	*e = *like;
	e->account = account;
	return e;
}

/* ---- Training: kernel ridge, by elimination -------------------------------------------------- */

static double product(const float *a, const float *b)
{
	float lane[16] = {0};
	double sum = 0.0;
	for (int f = 0; f < FEATURES; f += 16)
		for (int j = 0; j < 16; j++)
			lane[j] += a[f + j] * b[f + j];
	for (int j = 0; j < 16; j++)
		sum += (double)lane[j];
	return sum;
}

/* weights (n) with (K + ridge) weights = y. */
static void solve(double *k, double *weights, int n)
{
	for (int i = 0; i < n; i++)
		for (int j = i + 1; j < n; j++) {
			const double factor = k[j * n + i] / k[i * n + i];
			for (int c = i; factor != 0.0 && c < n; c++)
				k[j * n + c] -= factor * k[i * n + c];
			weights[j] -= factor * weights[i];
		}
	for (int i = n - 1; i >= 0; i--) {
		for (int j = i + 1; j < n; j++)
			weights[i] -= k[i * n + j] * weights[j];
		weights[i] /= k[i * n + i];
	}
}

/* theta of the examples that `in` names; of one of each cluster, as training does. */
static void train(const struct world *w, const bool *in, float *theta)
{
	int *list = malloc(((size_t)w->count + 1) * sizeof *list), n = 0;
	for (int i = 0; i < w->count; i++)
		if (in[i])
			list[n++] = i;
	double *k = malloc(((size_t)n * (size_t)n + 1) * sizeof *k);
	double *weights = malloc(((size_t)n + 1) * sizeof *weights);
	for (int i = 0; i < n; i++) {
		weights[i] = w->examples[list[i]].y;
		for (int j = 0; j < n; j++)
			k[i * n + j] = product(w->examples[list[i]].x, w->examples[list[j]].x) +
				       (i == j ? RIDGE : 0.0);
	}
	solve(k, weights, n);
	memset(theta, 0, FEATURES * sizeof *theta);
	for (int i = 0; i < n; i++)
		for (int f = 0; f < FEATURES; f++)
			theta[f] += (float)weights[i] * w->examples[list[i]].x[f];
	free(list);
	free(k);
	free(weights);
}

/* ---- The product's own pipeline ------------------------------------------------------------ */

struct pay {
	double account[ACCOUNTS_MAX]; /* parts of the pot */
	uint32_t clusters;
	double gross[ACCOUNTS_MAX]; /* net scores, signed */
};

static void fill_payees(struct ol_index_payee *payees, struct ol_index_example *examples,
			const struct world *w, const uint32_t *clusters, uint32_t count)
{
	for (uint32_t a = 0; a < count; a++) {
		memset(&payees[a], 0, sizeof payees[a]);
		payees[a].id[0] = (uint8_t)(a >> 8);
		payees[a].id[1] = (uint8_t)a;
	}
	for (int i = 0; i < w->count; i++)
		examples[i] = (struct ol_index_example){
			"e", (uint32_t)w->examples[i].account, clusters[i], WORDS, 1, 1.0f};
}

static void gradient_row(uint8_t *row, const float *x, double residual)
{
	float g[FEATURES];
	for (int f = 0; f < FEATURES; f++)
		g[f] = (float)(-residual * (double)x[f]);
	assert_true(ol_row_quantize(&layout, row, g));
}

static void pay_out(struct pay *pay, const struct world *w, const struct ol_index_content *c,
		    const float *theta)
{
	_Alignas(64) uint8_t row[2048];
	const struct ol_row_kernels *k = ol_row_kernels_for(OL_ISA_SCALAR);
	struct ol_epoch epoch = {0};
	struct ol_share *table = calloc(c->payee_count, sizeof *table);
	const uint8_t salt[OL_SHA256_BYTES] = {0};
	for (int q = 0; q < QUESTIONS; q++) {
		gradient_row(row, w->questions[q], w->answers[q] - product(theta, w->questions[q]));
		for (uint32_t a = 0; a < c->payee_count; a++) {
			memcpy(table[a].payee, c->payees[a].id, OL_PAYEE_BYTES);
			assert_int_equal(
				ol_score_fix(&table[a].score,
					     ol_row_dot(k, &layout, row,
							c->payee_rows + a * ol_row_bytes(&layout)) /
						     1e9,
					     NULL),
				OL_OK);
		}
		assert_int_equal(ol_epoch_add(&epoch, table, c->payee_count, NULL), OL_OK);
	}
	assert_int_equal(ol_epoch_close(&epoch, salt, NULL), OL_OK);
	for (uint32_t a = 0; a < c->payee_count; a++) {
		pay->account[a] = (double)epoch.rows[a].share / OL_SHARE_WHOLE;
		pay->gross[a] = (double)epoch.rows[a].score;
	}
	ol_epoch_release(&epoch);
	free(table);
}

/* Clusters by words first: training takes one of each; then the rest. */
static void run(struct pay *pay, const struct world *w, int accounts)
{
	const struct ol_row_kernels *k = ol_row_kernels_for(OL_ISA_SCALAR);
	const size_t stride = ol_row_bytes(&layout), n = (size_t)w->count;
	struct ol_span_text *texts = calloc(n, sizeof *texts);
	uint32_t *clusters = calloc(n, sizeof *clusters), merged[OL_CLUSTER_WHYS];
	bool *in = calloc(n, sizeof *in);
	float *theta = calloc(FEATURES, sizeof *theta);
	uint8_t *rows = aligned_alloc(64, n * stride), *sketches = malloc(n * OL_SKETCH_BYTES);
	uint8_t *payee_rows = aligned_alloc(64, (size_t)accounts * stride);
	struct ol_index_payee *payees = calloc((size_t)accounts, sizeof *payees);
	struct ol_index_example *examples = calloc(n, sizeof *examples);
	struct ol_sketch_plan plan;
	const struct ol_cluster_rows by_rows = {k, &layout, rows, sketches};
	memset(pay, 0, sizeof *pay);
	for (size_t i = 0; i < n; i++)
		texts[i] = (struct ol_span_text){w->examples[i].words, WORDS};
	assert_int_equal(ol_clusters_find(clusters, merged, texts, (uint32_t)n, NULL, NULL), OL_OK);
	for (size_t i = 0; i < n; i++)
		in[i] = clusters[i] == i;
	train(w, in, theta);
	assert_true(ol_sketch_plan_init(&plan, FEATURES));
	for (size_t i = 0; i < n; i++) {
		gradient_row(rows + i * stride, w->examples[i].x,
			     w->examples[i].y - product(theta, w->examples[i].x));
		ol_sketch_make(&plan, &layout, sketches + i * OL_SKETCH_BYTES, rows + i * stride);
	}
	assert_int_equal(ol_clusters_find(clusters, merged, texts, (uint32_t)n, &by_rows, NULL),
			 OL_OK);
	fill_payees(payees, examples, w, clusters, (uint32_t)accounts);
	const struct ol_index_content c = {.layout = layout,
					   .payees = payees,
					   .payee_count = (uint32_t)accounts,
					   .payee_rows = payee_rows,
					   .examples = examples,
					   .example_count = (uint32_t)n,
					   .example_rows = rows};
	for (int a = 0; a < accounts; a++)
		assert_true(ol_index_payee_row(&c, (uint32_t)a, payee_rows + (size_t)a * stride));
	for (size_t i = 0; i < n; i++)
		pay->clusters += clusters[i] == i;
	pay_out(pay, w, &c, theta);
	ol_sketch_plan_release(&plan);
	free(texts);
	free(clusters);
	free(in);
	free(theta);
	free(rows);
	free(sketches);
	free(payee_rows);
	free(payees);
	free(examples);
}

/* What account `who` and all accounts from GIVERS on are paid. */
static double paid(const struct pay *pay, int who)
{
	double sum = pay->account[who];
	for (int a = GIVERS; a < ACCOUNTS_MAX; a++)
		sum += pay->account[a];
	return sum;
}

/* An honest world, and what its third best paid contributor gets: the one who attacks. */
static double honest_pay(struct world *w, uint32_t seed, int *who)
{
	struct pay pay;
	open_world(w, seed);
	run(&pay, w, GIVERS);
	for (*who = 0; *who < GIVERS; (*who)++) {
		int better = 0;
		for (int a = 0; a < GIVERS; a++)
			better += pay.account[a] > pay.account[*who];
		if (better == 2)
			break;
	}
	return pay.account[*who];
}

/* ---- Is pay right where nobody attacks? ---------------------------------------------------- */

static void pay_is_near_shapley(void **state)
{
	struct world w;
	struct pay pay;
	static double worth[1 << GIVERS];
	double shapley[GIVERS], equal[GIVERS];
	(void)state;
	open_world(&w, 1);
	run(&pay, &w, GIVERS);
	for (int set = 0; set < 1 << GIVERS; set++) {
		bool in[HONEST];
		float theta[FEATURES];
		for (int i = 0; i < HONEST; i++)
			in[i] = set >> w.examples[i].account & 1;
		train(&w, in, theta);
		worth[set] = 0.0;
		for (int q = 0; q < QUESTIONS; q++) {
			const double off = w.answers[q] - product(theta, w.questions[q]);
			worth[set] -= 0.5 * off * off;
		}
	}
	ol_shapley(shapley, worth, GIVERS);
	for (int i = 0; i < GIVERS; i++)
		equal[i] = 1.0;
	const double off = ol_share_distance(pay.account, shapley, GIVERS);
	const double equal_off = ol_share_distance(equal, shapley, GIVERS);
	print_message("distance to exact Shapley: %.3f; of equal shares %.3f\n", off, equal_off);
	assert_true(off <= 0.15 && off < equal_off);
	free(w.examples);
}

/* ---- Attacks ------------------------------------------------------------------------------- */

static void check(const char *attack, double after, double before, double bound)
{
	print_message("%s: paid %.3f of before\n", attack, after / before);
	if (!(before > 0.0 && after <= bound * before))
		fail_msg("%s pays %.3f of before, at most %.2f is allowed", attack, after / before,
			 bound);
}

enum { WORLDS = 3 };

static double split(uint32_t seed, int into)
{
	struct world w;
	struct pay pay;
	int who;
	const double before = honest_pay(&w, seed, &who);
	for (int i = 0, k = 0; i < HONEST; i++)
		if (w.examples[i].account == who) {
			w.examples[i].account = k % into ? GIVERS + k % into : who;
			k++;
		}
	run(&pay, &w, GIVERS + EACH);
	free(w.examples);
	return paid(&pay, who) / before;
}

/* The same examples under several names. */
static void splitting(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < WORLDS; n++) {
		check("splitting in 2", split(10 + n, 2), 1.0, 1.02);
		check("splitting in 4", split(10 + n, 4), 1.0, 1.02);
	}
}

/* What is not prevented, and how far it goes: an account for every single example gets rid of those
 * that net a negative score. Written down in docs/PAYOUT.md. */
static void an_account_for_every_example(void **state)
{
	double most = 0.0;
	(void)state;
	for (uint32_t n = 0; n < WORLDS; n++)
		most = OL_MAX(most, split(10 + n, EACH));
	print_message("an account for every example: paid up to %.3f of before\n", most);
	assert_true(most < 1.5);
}

static void copies(double noise, int times, const char *name)
{
	for (uint32_t n = 0; n < WORLDS; n++) {
		struct world w;
		struct pay pay;
		int who;
		const double before = honest_pay(&w, 20 + n, &who);
		for (int i = 0; i < HONEST; i++)
			for (int k = 1; w.examples[i].account == who && k < times; k++) {
				struct example *e = add(&w, &w.examples[i], GIVERS + k % 4);
				for (int f = 0; f < FEATURES && noise > 0.0; f++)
					e->x[f] += (float)(noise * uniform());
				for (int m = 0; noise > 0.0 && m < 3; m++)
					e->words[13 * m] = (int32_t)((uniform() + 1.0) * 500.0);
			}
		run(&pay, &w, GIVERS + 4);
		check(name, paid(&pay, who), before, 1.02);
		free(w.examples);
	}
}

static void exact_copies(void **state)
{
	(void)state;
	copies(0.0, 2, "2 exact copies");
	copies(0.0, 10, "10 exact copies");
	copies(0.0, 100, "100 exact copies");
}

/* Copies that are other words to the eye, but the same to the model. Training takes them all: what
 * they do to the model is theirs, but they are paid as one. */
static void noisy_copies(void **state)
{
	(void)state;
	copies(0.15, 2, "2 noisy copies");
	copies(0.15, 4, "4 noisy copies");
	copies(0.15, 8, "8 noisy copies");
}

/* Somebody else's examples, copied later: the first to give them is paid. */
static void stealing(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < WORLDS; n++) {
		struct world w;
		struct pay pay;
		int who;
		const double before = honest_pay(&w, 30 + n, &who);
		for (int i = 0; i < HONEST; i++)
			if (w.examples[i].account == who)
				add(&w, &w.examples[i], GIVERS);
		run(&pay, &w, GIVERS + 1);
		assert_true(pay.account[GIVERS] == 0.0);
		assert_true(fabs(pay.account[who] / before - 1.0) < 0.02);
		assert_int_equal(pay.clusters, HONEST);
		free(w.examples);
	}
}

/* One of the examples becomes `factor` times what it was. */
static double outlier(uint32_t seed, double factor)
{
	struct world w;
	struct pay pay;
	int who, at = 0;
	const double before = honest_pay(&w, seed, &who);
	while (w.examples[at].account != who)
		at++;
	w.examples[at].y *= factor;
	run(&pay, &w, GIVERS);
	free(w.examples);
	return paid(&pay, who) / before;
}

/* Cutting long rows short would make the extreme ones pay six times as much: the model overshoots,
 * the attacker's other examples pull it back, and only the harm would be cut (docs/PAYOUT.md). */
static void outliers(void **state)
{
	static const double factors[] = {-100, -1, 3, 10, 100};
	(void)state;
	for (uint32_t n = 0; n < OL_ARRAY_LEN(factors) * WORLDS; n++)
		check("an outlier", outlier(40 + n % WORLDS, factors[n / WORLDS]), 1.0, 1.2);
}

/* What is not prevented, and how far it goes: one lie of just the right size makes the truth that
 * the same contributor tells beside it worth more. Written down in docs/PAYOUT.md. */
static void setting_fire(void **state)
{
	double most = 0.0;
	(void)state;
	for (uint32_t n = 0; n < WORLDS; n++)
		most = OL_MAX(most, outlier(40 + n, -10));
	print_message("setting fire: paid up to %.3f of before\n", most);
	assert_true(most < 1.8);
}

/* Harm is never paid: examples that say the opposite net a negative score. */
static void harm_is_not_paid(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < WORLDS; n++) {
		struct world w;
		struct pay pay;
		int who;
		assert_true(honest_pay(&w, 50 + n, &who) > 0.0);
		for (int i = 0; i < HONEST; i++)
			if (w.examples[i].account == who)
				w.examples[i].y = -w.examples[i].y;
		run(&pay, &w, GIVERS);
		assert_true(pay.gross[who] < 0.0 && pay.account[who] == 0.0);
		free(w.examples);
	}
}

/* New words for all that one has said, too far from it to be found (a cosine of about 0.8). */
static void far_paraphrases(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < WORLDS; n++) {
		struct world w;
		struct pay pay;
		int who;
		const double before = honest_pay(&w, 60 + n, &who);
		for (int i = 0; i < HONEST; i++) {
			if (w.examples[i].account != who)
				continue;
			struct example *e = add(&w, &w.examples[i], who);
			for (int f = 0; f < FEATURES; f++)
				e->x[f] += (float)uniform() * 0.6f;
			e->y = value_of(e->x);
			for (int m = 0; m < WORDS; m++)
				e->words[m] = (int32_t)((uniform() + 1.0) * 500.0);
		}
		run(&pay, &w, GIVERS);
		check("far paraphrases", paid(&pay, who), before, 1.10);
		free(w.examples);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pay_is_near_shapley),
		cmocka_unit_test(splitting),
		cmocka_unit_test(an_account_for_every_example),
		cmocka_unit_test(exact_copies),
		cmocka_unit_test(noisy_copies),
		cmocka_unit_test(stealing),
		cmocka_unit_test(outliers),
		cmocka_unit_test(setting_fire),
		cmocka_unit_test(harm_is_not_paid),
		cmocka_unit_test(far_paraphrases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
