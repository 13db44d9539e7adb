// From prices as a solver has them to integers that prove a bound.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "tiering/bound/certificate.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// A certificate whose prices are the nearest there are, and which claims all that they prove.
// Shares below zero count as zero, and shares that sum to more than 1 are scaled down. The time
// quantum is as small as sums in the verifier allow. Takes the verifier's time.
// INVALID_ARGUMENT if a price is not a number, or so large that no quantum serves; CANCELLED by
// `go_on`, as ProvenQuanta.
absl::StatusOr<Certificate> Certify(const Instance& instance, const Prices& prices,
                                    const std::function<bool()>& go_on = {});

// The most that the certificate of these prices can prove less than they are worth, in seconds: by
// rounding shares, prices and times to whole numbers. Far more than it does, as a rule.
double RoundingSeconds(const Instance& instance, const Prices& prices,
                       const Certificate& certificate);

}  // namespace kvtier::bound
