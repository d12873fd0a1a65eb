/* base/metrics.h, floor 0: counters, gauges and histograms, and the text that /metrics answers.
 *
 * Any room registers what it counts, once, and keeps the pointer; counting is a few atomic
 * instructions, from any thread, without a lock. Registering takes a lock; the same name and labels
 * give the same series again. A NULL registry gives NULL series, and counting on NULL does nothing:
 * a room need not ask whether anybody looks.
 *
 *     struct ol_counter *hits = ol_metrics_counter(m, "openledger_pool_hits_total",
 *                                                  "Adapters found in memory.", NULL, 0);
 *     ol_counter_add(hits, 1);
 *
 * The text is Prometheus' exposition format 0.0.4. */
#ifndef OL_BASE_METRICS_H
#define OL_BASE_METRICS_H

#include "base/buf.h"

enum {
	OL_METRICS_SERIES_MAX = 4096, /* labels must not grow with what strangers send */
	OL_METRICS_LABELS_MAX = 6,
	OL_METRICS_BOUNDS_MAX = 24
};

struct ol_metrics;
struct ol_counter;
struct ol_gauge;
struct ol_histogram;

struct ol_label {
	const char *name, *value; /* copied; a value may be any text */
};

OL_MUST_CHECK enum ol_status ol_metrics_open(struct ol_metrics **metrics_out);
/* After this no series may be touched. */
void ol_metrics_close(struct ol_metrics *metrics);

/* NULL when the registry is NULL or full. A name must be [a-zA-Z_:][a-zA-Z0-9_:]* and keep its
 * kind: anything else is our own bug. Counters' names end in _total. */
struct ol_counter *ol_metrics_counter(struct ol_metrics *metrics, const char *name,
				      const char *help, const struct ol_label *labels, int count);
void ol_counter_add(struct ol_counter *counter, uint64_t more);

struct ol_gauge *ol_metrics_gauge(struct ol_metrics *metrics, const char *name, const char *help,
				  const struct ol_label *labels, int count);
void ol_gauge_set(struct ol_gauge *gauge, double value);
void ol_gauge_add(struct ol_gauge *gauge, double more);

/* A gauge, or a counter that its owner keeps, which is asked for when the text is written: read
 * must be callable from any thread until the registry is closed. */
typedef double ol_metric_read(void *context);
void ol_metrics_gauge_read(struct ol_metrics *metrics, const char *name, const char *help,
			   const struct ol_label *labels, int count, ol_metric_read *read,
			   void *context);
void ol_metrics_counter_read(struct ol_metrics *metrics, const char *name, const char *help,
			     const struct ol_label *labels, int count, ol_metric_read *read,
			     void *context);

/* bounds: upper ends, ascending, without +Inf; NULL: OL_SECONDS_BOUNDS. */
struct ol_histogram *ol_metrics_histogram(struct ol_metrics *metrics, const char *name,
					  const char *help, const struct ol_label *labels,
					  int count, const double *bounds, int bound_count);
void ol_histogram_observe(struct ol_histogram *histogram, double value);

/* 1 ms to 60 s. */
extern const double ol_seconds_bounds[];
extern const int ol_seconds_bound_count;

/* Families in the order of registration, each with HELP and TYPE; false when out cannot hold it. */
OL_MUST_CHECK bool ol_metrics_write(struct ol_metrics *metrics, struct ol_buf *out);

#endif
