/* The text of /metrics, byte for byte, and counting from many threads. */
#include "base/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void assert_text(struct ol_metrics *metrics, const char *expected)
{
	struct ol_buf text;
	ol_buf_init(&text, 1 << 20);
	assert_true(ol_metrics_write(metrics, &text));
	assert_string_equal(text.data, expected);
	ol_buf_release(&text);
}

static double read_seven(void *context)
{
	return *(const double *)context;
}

static void test_text(void **state)
{
	static const double bounds[] = {0.1, 2.5};
	static double seven = 7.25;
	const struct ol_label odd[] = {{"path", "a\"b\\c\nd"}, {"code", ""}};
	struct ol_metrics *m;
	(void)state;
	assert_int_equal(ol_metrics_open(&m), OL_OK);
	struct ol_counter *c = ol_metrics_counter(m, "a_total", "One\\two\nthree \"x\".", odd, 2);
	struct ol_counter *d = ol_metrics_counter(m, "a_total", "ignored", NULL, 0);
	struct ol_gauge *g = ol_metrics_gauge(m, "b", "B.", NULL, 0);
	const struct ol_label label = {"k", "v"};
	struct ol_histogram *h = ol_metrics_histogram(m, "c", "C.", &label, 1, bounds, 2);
	ol_metrics_gauge_read(m, "d", "D.", NULL, 0, read_seven, &seven);
	/* The same name and labels are the same series. */
	assert_ptr_equal(c, ol_metrics_counter(m, "a_total", "", odd, 2));
	assert_ptr_not_equal(c, d);
	ol_counter_add(c, 3);
	ol_counter_add(d, 1);
	ol_gauge_set(g, 2.0);
	ol_gauge_add(g, -2.5);
	/* A bound belongs to its bucket. */
	ol_histogram_observe(h, 0.1);
	ol_histogram_observe(h, 0.5);
	ol_histogram_observe(h, 9.0);
	assert_text(m, "# HELP a_total One\\\\two\\nthree \"x\".\n"
		       "# TYPE a_total counter\n"
		       "a_total{path=\"a\\\"b\\\\c\\nd\",code=\"\"} 3\n"
		       "a_total 1\n"
		       "# HELP b B.\n"
		       "# TYPE b gauge\n"
		       "b -0.5\n"
		       "# HELP c C.\n"
		       "# TYPE c histogram\n"
		       "c_bucket{k=\"v\",le=\"0.1\"} 1\n"
		       "c_bucket{k=\"v\",le=\"2.5\"} 2\n"
		       "c_bucket{k=\"v\",le=\"+Inf\"} 3\n"
		       "c_sum{k=\"v\"} 9.5999999999999996\n"
		       "c_count{k=\"v\"} 3\n"
		       "# HELP d D.\n"
		       "# TYPE d gauge\n"
		       "d 7.25\n");
	ol_metrics_close(m);
}

/* A registry that is not there, and one that is full, cost nothing and break nothing. */
static void test_absent(void **state)
{
	struct ol_metrics *m;
	char value[16];
	const struct ol_label label = {"n", value};
	(void)state;
	assert_null(ol_metrics_counter(NULL, "a_total", "", NULL, 0));
	ol_counter_add(NULL, 1);
	ol_gauge_set(ol_metrics_gauge(NULL, "b", "", NULL, 0), 1.0);
	ol_gauge_add(NULL, 1.0);
	ol_histogram_observe(ol_metrics_histogram(NULL, "c", "", NULL, 0, NULL, 0), 1.0);
	assert_int_equal(ol_metrics_open(&m), OL_OK);
	for (int i = 0; i < OL_METRICS_SERIES_MAX; i++) {
		snprintf(value, sizeof value, "%d", i);
		assert_non_null(ol_metrics_counter(m, "a_total", "", &label, 1));
	}
	snprintf(value, sizeof value, "more");
	assert_null(ol_metrics_counter(m, "a_total", "", &label, 1));
	ol_metrics_close(m);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *count_up(void *self)
{
	struct ol_metrics *m = self;
	struct ol_counter *c = ol_metrics_counter(m, "a_total", "A.", NULL, 0);
	struct ol_gauge *g = ol_metrics_gauge(m, "b", "B.", NULL, 0);
	struct ol_histogram *h = ol_metrics_histogram(m, "c", "C.", NULL, 0, NULL, 0);
	for (int i = 0; i < ROUNDS; i++) {
		ol_counter_add(c, 1);
		ol_gauge_add(g, 1.0);
		ol_histogram_observe(h, 1.0);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct ol_metrics *m;
	struct ol_buf text;
	pthread_t threads[THREADS];
	(void)state;
	assert_int_equal(ol_metrics_open(&m), OL_OK);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, m), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ol_buf_init(&text, 1 << 20);
	assert_true(ol_metrics_write(m, &text));
	assert_non_null(strstr(text.data, "\na_total 80000\n"));
	assert_non_null(strstr(text.data, "\nb 80000\n"));
	assert_non_null(strstr(text.data, "\nc_sum 80000\nc_count 80000\n"));
	ol_buf_release(&text);
	ol_metrics_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
