// Checks a certificate: its prices prove its bound. Integers only, one phase after another for each
// block (and what runs of phases without access cost, summed up once for all blocks of a class:
// sums and minima of integers are the same in any order), and nothing shared with what found the
// prices but the instance.
//
// With q quanta a second, shares p in 2^-40 and room l in 2^-32 quanta a byte, in each phase:
//   units u of resource r take           t(u, r) = floor(u x q / rate of r) quanta
//   loads u of all resources cost        floor(sum of p[r] x t(u[r], r) / 2^40)
//   a block of w bytes costs             that of its option's loads, plus
//                                        floor(w x sum of l of its state's tiers / 2^32)
// and the bound is the sum over phases of what base loads cost, minus the sum over phases and tiers
// of ceil(l x capacity / 2^32), plus each block's cheapest way through its life. Every rounding
// makes it lower, and with shares that sum to at most 2^40 no schedule is faster (docs/BOUND.md).
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "tiering/bound/certificate.h"
#include "tiering/bound/instance.h"

namespace kvtier::bound {

// The bound that the certificate's prices prove for an instance that passed Check, in quanta,
// whatever the certificate claims and which instance it names. Below zero with poor prices.
// INVALID_ARGUMENT if the prices are not those of such an instance, a phase's shares sum to more
// than 1, or numbers are so large that sums may overflow. CANCELLED once `go_on`, which is asked
// now and then unless it is empty, has returned false.
absl::StatusOr<__int128> ProvenQuanta(const Instance& instance, const Certificate& certificate,
                                      const std::function<bool()>& go_on = {});

// The claimed bound in seconds, rounded down, if the certificate names this instance and its prices
// prove at least what it claims. FAILED_PRECONDITION if it is another instance's or claims too
// much; else as ProvenQuanta.
absl::StatusOr<double> VerifiedSeconds(const Instance& instance, const Certificate& certificate,
                                       const std::function<bool()>& go_on = {});

// Rounded down.
double SecondsOf(__int128 quanta, uint64_t quanta_per_second);

}  // namespace kvtier::bound
