// Prices to try bounds with: any, and such that the bound comes close to the truth.
#pragma once

#include "tiering/base/rng.h"
#include "tiering/bound/certificate.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::test_support {

// Shares that sum to at most 1 in each phase, often one resource's alone; room that is often zero
// and else up to a few times what a byte's way over the slowest resource takes.
bound::Prices RandomPrices(const bound::Instance& instance, Rng& rng);

// The best prices that a random search of so many naive evaluations finds.
bound::Prices SearchPrices(const bound::Instance& instance, int evaluations, Rng& rng);

// Those that a certificate's integers stand for; shares are exact, room is rounded to a double.
bound::Prices PricesOf(const bound::Certificate& certificate);

// What the sums that make up a value at these prices are made of, in size: seconds of room that is
// paid for, by blocks and by nobody. Errors are relative to it.
double Magnitude(const bound::Instance& instance, const bound::Prices& prices);

}  // namespace kvtier::test_support
