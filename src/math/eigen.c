/* math/eigen.c: Householder reduction and implicit QL. */
#include "math/eigen.h"

#include <math.h>
#include <string.h>

enum { SWEEPS_MAX = 64 };

/* y += s * x */
static void add_scaled(double *restrict y, const double *restrict x, double s, int n)
{
	for (int i = 0; i < n; i++)
		y[i] += s * x[i];
}

/* The reflection I - beta v v^T that turns x (n) into (alpha, 0, …): v overwrites x. Returns
 * beta; 0 where there is nothing to reflect. */
static double reflector(double *x, int n, double *alpha)
{
	double tail = 0.0;
	for (int i = 1; i < n; i++)
		tail += x[i] * x[i];
	*alpha = x[0];
	if (tail == 0.0)
		return 0.0;
	const double norm = sqrt(x[0] * x[0] + tail);
	*alpha = x[0] > 0.0 ? -norm : norm;
	x[0] -= *alpha;
	return 2.0 / (x[0] * x[0] + tail);
}

/* Step k: the lower right block (m,m) of a loses beta-scaled outer products so that column k is
 * (…, diagonal[k], off[k], 0, …). v (m) is the reflector, p (m) scratch. The block stays whole. */
static void reduce_step(double *a, int n, int k, const double *v, double beta, double *p)
{
	const int m = n - k - 1;
	double *block = a + (size_t)(k + 1) * (size_t)n + (size_t)(k + 1);
	double vp = 0.0;
	for (int i = 0; i < m; i++) {
		const double *row = block + (size_t)i * (size_t)n;
		double sum = 0.0;
		for (int j = 0; j < m; j++)
			sum += row[j] * v[j];
		p[i] = beta * sum;
		vp += v[i] * p[i];
	}
	for (int i = 0; i < m; i++)
		p[i] -= 0.5 * beta * vp * v[i];
	for (int i = 0; i < m; i++) {
		double *row = block + (size_t)i * (size_t)n;
		add_scaled(row, p, -v[i], m);
		add_scaled(row, v, -p[i], m);
	}
}

/* vectors = H_{n-3} … H_0, so that vectors^T T vectors is the matrix we came with. */
static void tridiagonal(double *a, double *vectors, double *diagonal, double *off, double *v,
			double *p, int n)
{
	memset(vectors, 0, (size_t)n * (size_t)n * sizeof *vectors);
	for (int i = 0; i < n; i++)
		vectors[(size_t)i * (size_t)n + (size_t)i] = 1.0;
	for (int k = 0; k + 1 < n; k++) {
		const int m = n - k - 1;
		for (int i = 0; i < m; i++)
			v[i] = a[(size_t)(k + 1 + i) * (size_t)n + (size_t)k];
		diagonal[k] = a[(size_t)k * (size_t)n + (size_t)k];
		const double beta = reflector(v, m, &off[k]);
		if (beta == 0.0)
			continue;
		reduce_step(a, n, k, v, beta, p);
		double *below = vectors + (size_t)(k + 1) * (size_t)n;
		memset(p, 0, (size_t)n * sizeof *p);
		for (int i = 0; i < m; i++)
			add_scaled(p, below + (size_t)i * (size_t)n, v[i], n);
		for (int i = 0; i < m; i++)
			add_scaled(below + (size_t)i * (size_t)n, p, -beta * v[i], n);
	}
	diagonal[n - 1] = a[(size_t)n * (size_t)n - 1];
	off[n - 1] = 0.0;
}

/* Rows x and y of the vectors turn by the angle whose cosine and sine are given. */
static void rotate_rows(double *restrict x, double *restrict y, double cosine, double sine, int n)
{
	for (int i = 0; i < n; i++) {
		const double u = x[i], w = y[i];
		y[i] = sine * u + cosine * w;
		x[i] = cosine * u - sine * w;
	}
}

/* One implicit QL step on the unreduced block [first,last]. */
static void ql_step(double *d, double *e, double *vectors, int first, int last, int n)
{
	const double half = (d[first + 1] - d[first]) / (2.0 * e[first]);
	const double root = sqrt(half * half + 1.0);
	double g = d[last] - d[first] + e[first] / (half + (half < 0.0 ? -root : root));
	double sine = 1.0, cosine = 1.0, shift = 0.0;
	for (int i = last - 1; i >= first; i--) {
		const double f = sine * e[i], b = cosine * e[i];
		const double r = sqrt(f * f + g * g);
		e[i + 1] = r;
		if (r == 0.0) { /* the block falls apart here: the caller looks again */
			d[i + 1] -= shift;
			e[last] = 0.0;
			return;
		}
		sine = f / r;
		cosine = g / r;
		const double up = d[i + 1] - shift;
		const double t = (d[i] - up) * sine + 2.0 * cosine * b;
		shift = sine * t;
		d[i + 1] = up + shift;
		g = cosine * t - b;
		rotate_rows(vectors + (size_t)i * (size_t)n, vectors + (size_t)(i + 1) * (size_t)n,
			    cosine, sine, n);
	}
	d[first] -= shift;
	e[first] = g;
	e[last] = 0.0;
}

static bool negligible(const double *d, const double *e, int i)
{
	return fabs(e[i]) <= 0x1p-52 * (fabs(d[i]) + fabs(d[i + 1]));
}

static bool diagonalise(double *d, double *e, double *vectors, int n)
{
	for (int first = 0; first < n; first++) {
		for (int sweep = 0;; sweep++) {
			int last = first;
			while (last + 1 < n && !negligible(d, e, last))
				last++;
			if (last == first)
				break;
			if (sweep == SWEEPS_MAX)
				return false;
			ql_step(d, e, vectors, first, last, n);
		}
	}
	return true;
}

static void sort_ascending(double *values, double *vectors, double *row, int n)
{
	const size_t bytes = (size_t)n * sizeof *row;
	for (int i = 0; i < n; i++) {
		int least = i;
		for (int j = i + 1; j < n; j++)
			if (values[j] < values[least])
				least = j;
		if (least == i)
			continue;
		double *a = vectors + (size_t)i * (size_t)n;
		double *b = vectors + (size_t)least * (size_t)n;
		const double value = values[i];
		values[i] = values[least];
		values[least] = value;
		memcpy(row, a, bytes);
		memcpy(a, b, bytes);
		memcpy(b, row, bytes);
	}
}

bool ol_eigen_symmetric(double *values, double *vectors, double *a, int n, double *scratch)
{
	OL_ASSERT(n > 0);
	double *off = scratch, *v = scratch + n, *p = scratch + 2 * (size_t)n;
	for (int i = 0; i < n; i++) {
		for (int j = 0; j <= i; j++) {
			const double x = a[(size_t)i * (size_t)n + (size_t)j];
			if (!isfinite(x))
				return false;
			a[(size_t)j * (size_t)n + (size_t)i] = x;
		}
	}
	tridiagonal(a, vectors, values, off, v, p, n);
	if (!diagonalise(values, off, vectors, n))
		return false;
	sort_ascending(values, vectors, p, n);
	return true;
}
