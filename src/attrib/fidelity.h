/* attrib/fidelity.h, floor 3: how well scores foretell what retraining does: the statistics alone.
 *
 * Ranks and correlations are for people; nothing that is paid depends on them. */
#ifndef OL_ATTRIB_FIDELITY_H
#define OL_ATTRIB_FIDELITY_H

#include "base/base.h"

enum { OL_SHAPLEY_MAX = 16 /* players: 2^16 coalitions */ };

/* keep (count): exactly round(part * count) of them, those with the smallest Philox words of
 * (subset, index). */
OL_MUST_CHECK bool ol_subset_draw(uint8_t *keep, size_t count, uint32_t subset, double part);

/* Spearman's rank correlation, ties sharing their mean rank; 0 where one side is constant. NaN: out
 * of memory. */
double ol_spearman(const double *a, const double *b, size_t n);

/* values (players): exact Shapley values of worth (2^players), indexed by the coalition's bits. */
void ol_shapley(double *values, const double *worth, int players);

/* Half the sum of the differences of two lists of positive parts, each divided by its sum: 0 the
 * same, 1 nothing in common; 1 where just one is empty. */
double ol_share_distance(const double *a, const double *b, size_t n);

#endif
