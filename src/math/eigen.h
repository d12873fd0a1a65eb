/* math/eigen.h, floor 1: eigenvectors of symmetric matrices. Arrays and numbers only.
 *
 * Householder's reduction to a tridiagonal matrix, then QL steps with implicit shifts (Golub and
 * Van Loan, Matrix Computations, 8.3). In f64 with + - * / sqrt in a fixed order: the same bits
 * everywhere, like all that a score is made of. */
#ifndef OL_MATH_EIGEN_H
#define OL_MATH_EIGEN_H

#include "base/base.h"

/* A = V^T diag(values) V for the symmetric a (n,n), row-major, which is destroyed; only its lower
 * triangle is read. values (n) ascend; row i of vectors (n,n) is the unit eigenvector of values[i].
 * scratch: 4 n doubles. False if the iteration does not converge: a is not finite. */
OL_MUST_CHECK bool ol_eigen_symmetric(double *values, double *vectors, double *a, int n,
				      double *scratch);

#endif
