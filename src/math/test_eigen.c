/* Eigenvectors of symmetric matrices against their definition, and a matrix with known ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/eigen.h"
#include "math/functions.h"

static double uniform(uint32_t seed, uint32_t index)
{
	const uint32_t counter[4] = {index, 0, 0, 0}, key[2] = {seed, 7};
	uint32_t out[4];
	ol_philox(out, counter, key);
	return 2.0 * ol_unit_double(out[0]) - 1.0;
}

enum kind { DENSE, LOW_RANK, REPEATED, DIAGONAL, ZERO };

static void fill(double *a, int n, enum kind kind)
{
	memset(a, 0, (size_t)n * (size_t)n * sizeof *a);
	for (int i = 0; i < n; i++)
		for (int j = 0; j <= i; j++) {
			double x = 0.0;
			if (kind == DENSE)
				x = uniform(1, (uint32_t)(i * n + j));
			else if (kind == LOW_RANK)
				for (uint32_t r = 0; r < 2; r++)
					x += uniform(2 + r, (uint32_t)i) *
					     uniform(2 + r, (uint32_t)j);
			else if (i == j)
				x = kind == REPEATED ? (double)(i % 2)
						     : uniform(5, (uint32_t)i) * (kind == DIAGONAL);
			a[i * n + j] = a[j * n + i] = x;
		}
}

static void check(int n, enum kind kind)
{
	const size_t square = (size_t)n * (size_t)n;
	double *a = malloc(square * sizeof *a), *copy = malloc(square * sizeof *a);
	double *vectors = malloc(square * sizeof *a);
	double *values = malloc((size_t)n * sizeof *a),
	       *scratch = malloc(4 * (size_t)n * sizeof *a);
	fill(a, n, kind);
	memcpy(copy, a, square * sizeof *a);
	assert_true(ol_eigen_symmetric(values, vectors, copy, n, scratch));
	for (int i = 0; i < n; i++) {
		assert_true(i == 0 || values[i - 1] <= values[i]);
		for (int j = 0; j < n; j++) {
			double dot = 0.0, av = 0.0;
			for (int k = 0; k < n; k++) {
				dot += vectors[i * n + k] * vectors[j * n + k];
				av += a[j * n + k] * vectors[i * n + k];
			}
			assert_true(fabs(dot - (i == j)) < 1e-13 * (n + 4));
			assert_true(fabs(av - values[i] * vectors[i * n + j]) < 1e-13 * (n + 4));
		}
	}
	free(a);
	free(copy);
	free(vectors);
	free(values);
	free(scratch);
}

static void test_definition(void **state)
{
	(void)state;
	const int sizes[] = {1, 2, 3, 4, 7, 16, 33, 80};
	for (size_t s = 0; s < OL_ARRAY_LEN(sizes); s++)
		for (int kind = DENSE; kind <= ZERO; kind++)
			check(sizes[s], (enum kind)kind);
}

/* Second differences: 2 - 2 cos(pi (k + 1) / (n + 1)). */
static void test_known_values(void **state)
{
	(void)state;
	enum { N = 24 };
	double a[N * N] = {0}, values[N], vectors[N * N], scratch[4 * N];
	for (int i = 0; i < N; i++) {
		a[i * N + i] = 2.0;
		if (i > 0)
			a[i * N + i - 1] = -1.0;
	}
	assert_true(ol_eigen_symmetric(values, vectors, a, N, scratch));
	for (int k = 0; k < N; k++)
		assert_true(fabs(values[k] - (2.0 - 2.0 * cos(3.14159265358979323846 * (k + 1) /
							      (N + 1)))) < 1e-13);
}

static void test_not_finite(void **state)
{
	(void)state;
	double a[4] = {1.0, 0.0, NAN, 1.0}, values[2], vectors[4], scratch[8];
	assert_false(ol_eigen_symmetric(values, vectors, a, 2, scratch));
	a[2] = INFINITY;
	assert_false(ol_eigen_symmetric(values, vectors, a, 2, scratch));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_definition),
		cmocka_unit_test(test_known_values),
		cmocka_unit_test(test_not_finite),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
