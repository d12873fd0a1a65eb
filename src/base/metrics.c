#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double ol_seconds_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
				    0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0};
const int ol_seconds_bound_count = (int)OL_ARRAY_LEN(ol_seconds_bounds);

enum kind { COUNTER, GAUGE, HISTOGRAM, COUNTER_READ, GAUGE_READ };

struct ol_counter {
	_Atomic uint64_t value;
};

struct ol_gauge {
	_Atomic double value;
};

struct ol_histogram {
	int bound_count;
	double bounds[OL_METRICS_BOUNDS_MAX];
	/* One beyond the last bound: +Inf. Each observation is in one of them; the text adds up. */
	_Atomic uint64_t counts[OL_METRICS_BOUNDS_MAX + 1];
	_Atomic double sum;
};

struct series {
	struct series *next;
	char *labels; /* `a="b",c="d"`, without braces; the identity within the family */
	union {
		struct ol_counter counter;
		struct ol_gauge gauge;
		struct ol_histogram *histogram;
	} value;
	ol_metric_read *read;
	void *context;
};

struct family {
	struct family *next;
	char *name, *help;
	enum kind kind;
	struct series *first, **last;
};

/* Families and series are added under the lock and live until close; so a reader of the text holds
 * the lock, and those who count do not. */
struct ol_metrics {
	pthread_mutex_t lock;
	struct family *first, **last;
	int series_count;
};

enum ol_status ol_metrics_open(struct ol_metrics **metrics_out)
{
	struct ol_metrics *metrics = calloc(1, sizeof *metrics);
	*metrics_out = metrics;
	if (!metrics)
		return OL_ERR_FULL;
	pthread_mutex_init(&metrics->lock, NULL);
	metrics->last = &metrics->first;
	return OL_OK;
}

static void series_free(struct family *family, struct series *series)
{
	if (family->kind == HISTOGRAM)
		free(series->value.histogram);
	free(series->labels);
	free(series);
}

static void family_free(struct family *family)
{
	for (struct series *s = family->first, *next; s; s = next) {
		next = s->next;
		series_free(family, s);
	}
	free(family->name);
	free(family->help);
	free(family);
}

void ol_metrics_close(struct ol_metrics *metrics)
{
	if (!metrics)
		return;
	for (struct family *f = metrics->first, *next; f; f = next) {
		next = f->next;
		family_free(f);
	}
	pthread_mutex_destroy(&metrics->lock);
	free(metrics);
}

/* Backslash, newline and, in a label's value, the quote. */
static void append_escaped(struct ol_buf *out, const char *text, bool quoted)
{
	for (; *text; text++) {
		if (*text == '\n')
			ol_buf_append_text(out, "\\n");
		else if (*text == '\\' || (quoted && *text == '"'))
			ol_buf_printf(out, "\\%c", *text);
		else
			ol_buf_append(out, text, 1);
	}
}

static bool good_name(const char *name, bool colons)
{
	for (const char *c = name; *c; c++) {
		const bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
				    *c == '_' || (colons && *c == ':');
		if (!letter && !(c > name && *c >= '0' && *c <= '9'))
			return false;
	}
	return *name != '\0';
}

static char *copy_text(const char *text)
{
	const size_t size = strlen(text) + 1;
	char *copy = malloc(size);
	if (copy)
		memcpy(copy, text, size);
	return copy;
}

static char *write_labels(const struct ol_label *labels, int count)
{
	struct ol_buf text;
	ol_buf_init(&text, 1 << 16);
	ol_buf_append_text(&text, "");
	for (int i = 0; i < count; i++) {
		OL_ASSERT(good_name(labels[i].name, false));
		ol_buf_printf(&text, "%s%s=\"", i ? "," : "", labels[i].name);
		append_escaped(&text, labels[i].value, true);
		ol_buf_append_text(&text, "\"");
	}
	if (text.failed)
		ol_buf_release(&text);
	return text.data; /* the caller's */
}

static struct family *find_family(struct ol_metrics *metrics, enum kind kind, const char *name,
				  const char *help)
{
	for (struct family *f = metrics->first; f; f = f->next)
		if (strcmp(f->name, name) == 0) {
			OL_ASSERT(f->kind == kind);
			return f;
		}
	struct family *family = calloc(1, sizeof *family);
	if (!family)
		return NULL;
	family->name = copy_text(name);
	family->help = copy_text(help);
	family->kind = kind;
	family->last = &family->first;
	if (!family->name || !family->help) {
		family_free(family);
		return NULL;
	}
	*metrics->last = family;
	metrics->last = &family->next;
	return family;
}

static struct series *add_series(struct ol_metrics *metrics, struct family *family, char *labels,
				 const double *bounds, int bound_count)
{
	struct series *series = NULL;
	if (metrics->series_count < OL_METRICS_SERIES_MAX)
		series = calloc(1, sizeof *series);
	if (series && family->kind == HISTOGRAM) {
		struct ol_histogram *h = calloc(1, sizeof *h);
		if (!h) {
			free(series);
			series = NULL;
		} else {
			h->bound_count = bound_count;
			memcpy(h->bounds, bounds, (size_t)bound_count * sizeof *bounds);
			series->value.histogram = h;
		}
	}
	if (!series) {
		free(labels);
		return NULL;
	}
	series->labels = labels;
	*family->last = series;
	family->last = &series->next;
	metrics->series_count++;
	return series;
}

/* With the lock held. */
static struct series *find_or_add(struct ol_metrics *metrics, enum kind kind, const char *name,
				  const char *help, char *labels, const double *bounds,
				  int bound_count)
{
	struct family *family = find_family(metrics, kind, name, help);
	for (struct series *s = family ? family->first : NULL; s; s = s->next)
		if (strcmp(s->labels, labels) == 0) {
			free(labels);
			return s;
		}
	if (!family) {
		free(labels);
		return NULL;
	}
	return add_series(metrics, family, labels, bounds, bound_count);
}

static struct series *series_of(struct ol_metrics *metrics, enum kind kind, const char *name,
				const char *help, const struct ol_label *labels, int count,
				const double *bounds, int bound_count)
{
	if (!metrics)
		return NULL;
	OL_ASSERT(good_name(name, true) && count >= 0 && count <= OL_METRICS_LABELS_MAX);
	OL_ASSERT(bound_count <= OL_METRICS_BOUNDS_MAX);
	char *text = write_labels(labels, count);
	if (!text)
		return NULL;
	pthread_mutex_lock(&metrics->lock);
	struct series *series = find_or_add(metrics, kind, name, help, text, bounds, bound_count);
	pthread_mutex_unlock(&metrics->lock);
	return series;
}

struct ol_counter *ol_metrics_counter(struct ol_metrics *metrics, const char *name,
				      const char *help, const struct ol_label *labels, int count)
{
	struct series *s = series_of(metrics, COUNTER, name, help, labels, count, NULL, 0);
	return s ? &s->value.counter : NULL;
}

void ol_counter_add(struct ol_counter *counter, uint64_t more)
{
	if (counter)
		atomic_fetch_add_explicit(&counter->value, more, memory_order_relaxed);
}

struct ol_gauge *ol_metrics_gauge(struct ol_metrics *metrics, const char *name, const char *help,
				  const struct ol_label *labels, int count)
{
	struct series *s = series_of(metrics, GAUGE, name, help, labels, count, NULL, 0);
	return s ? &s->value.gauge : NULL;
}

static void add_double(_Atomic double *sum, double more)
{
	double old = atomic_load_explicit(sum, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(sum, &old, old + more, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

void ol_gauge_set(struct ol_gauge *gauge, double value)
{
	if (gauge)
		atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

void ol_gauge_add(struct ol_gauge *gauge, double more)
{
	if (gauge)
		add_double(&gauge->value, more);
}

static void read_series(struct ol_metrics *metrics, enum kind kind, const char *name,
			const char *help, const struct ol_label *labels, int count,
			ol_metric_read *read, void *context)
{
	struct series *s = series_of(metrics, kind, name, help, labels, count, NULL, 0);
	if (!s)
		return;
	pthread_mutex_lock(&metrics->lock);
	s->read = read;
	s->context = context;
	pthread_mutex_unlock(&metrics->lock);
}

void ol_metrics_gauge_read(struct ol_metrics *metrics, const char *name, const char *help,
			   const struct ol_label *labels, int count, ol_metric_read *read,
			   void *context)
{
	read_series(metrics, GAUGE_READ, name, help, labels, count, read, context);
}

void ol_metrics_counter_read(struct ol_metrics *metrics, const char *name, const char *help,
			     const struct ol_label *labels, int count, ol_metric_read *read,
			     void *context)
{
	read_series(metrics, COUNTER_READ, name, help, labels, count, read, context);
}

struct ol_histogram *ol_metrics_histogram(struct ol_metrics *metrics, const char *name,
					  const char *help, const struct ol_label *labels,
					  int count, const double *bounds, int bound_count)
{
	if (!bounds) {
		bounds = ol_seconds_bounds;
		bound_count = ol_seconds_bound_count;
	}
	for (int i = 1; i < bound_count; i++)
		OL_ASSERT(bounds[i] > bounds[i - 1]);
	struct series *s =
		series_of(metrics, HISTOGRAM, name, help, labels, count, bounds, bound_count);
	return s ? s->value.histogram : NULL;
}

void ol_histogram_observe(struct ol_histogram *histogram, double value)
{
	int i = 0;
	if (!histogram)
		return;
	while (i < histogram->bound_count && value > histogram->bounds[i])
		i++;
	atomic_fetch_add_explicit(&histogram->counts[i], 1, memory_order_relaxed);
	add_double(&histogram->sum, value);
}

static void append_number(struct ol_buf *out, double value)
{
	if (isnan(value))
		ol_buf_append_text(out, "NaN");
	else if (isinf(value))
		ol_buf_append_text(out, value > 0 ? "+Inf" : "-Inf");
	else
		ol_buf_printf(out, "%.17g", value);
}

/* Bounds are written as a person wrote them: 0.1, not 0.10000000000000001. */
static void append_bound(struct ol_buf *out, const char *labels, double bound)
{
	ol_buf_printf(out, "%s%sle=\"", labels, *labels ? "," : "");
	if (isinf(bound))
		ol_buf_append_text(out, "+Inf");
	else
		ol_buf_printf(out, "%.9g", bound);
	ol_buf_append_text(out, "\"");
}

static void write_histogram(struct ol_buf *out, const char *name, const struct series *series)
{
	struct ol_histogram *h = series->value.histogram;
	uint64_t below = 0;
	for (int i = 0; i <= h->bound_count; i++) {
		below += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
		ol_buf_printf(out, "%s_bucket{", name);
		append_bound(out, series->labels,
			     i < h->bound_count ? h->bounds[i] : (double)INFINITY);
		ol_buf_printf(out, "} %llu\n", (unsigned long long)below);
	}
	const char *open = *series->labels ? "{" : "", *close = *series->labels ? "}" : "";
	ol_buf_printf(out, "%s_sum%s%s%s ", name, open, series->labels, close);
	append_number(out, atomic_load_explicit(&h->sum, memory_order_relaxed));
	/* The count is the +Inf bucket that was written: the two never disagree. */
	ol_buf_printf(out, "\n%s_count%s%s%s %llu\n", name, open, series->labels, close,
		      (unsigned long long)below);
}

static void write_series(struct ol_buf *out, const struct family *family, struct series *series)
{
	const bool labelled = *series->labels != '\0';
	if (family->kind == HISTOGRAM) {
		write_histogram(out, family->name, series);
		return;
	}
	ol_buf_printf(out, "%s%s%s%s ", family->name, labelled ? "{" : "", series->labels,
		      labelled ? "}" : "");
	switch (family->kind) {
	case COUNTER:
		ol_buf_printf(out, "%llu",
			      (unsigned long long)atomic_load_explicit(&series->value.counter.value,
								       memory_order_relaxed));
		break;
	case GAUGE:
		append_number(out, atomic_load_explicit(&series->value.gauge.value,
							memory_order_relaxed));
		break;
	case COUNTER_READ:
	case GAUGE_READ:
		append_number(out, series->read ? series->read(series->context) : 0.0);
		break;
	case HISTOGRAM: OL_UNREACHABLE();
	}
	ol_buf_append_text(out, "\n");
}

bool ol_metrics_write(struct ol_metrics *metrics, struct ol_buf *out)
{
	static const char *const types[] = {"counter", "gauge", "histogram", "counter", "gauge"};
	pthread_mutex_lock(&metrics->lock);
	for (struct family *f = metrics->first; f; f = f->next) {
		ol_buf_printf(out, "# HELP %s ", f->name);
		append_escaped(out, f->help, false);
		ol_buf_printf(out, "\n# TYPE %s %s\n", f->name, types[f->kind]);
		for (struct series *s = f->first; s; s = s->next)
			write_series(out, f, s);
	}
	pthread_mutex_unlock(&metrics->lock);
	return !out->failed;
}
