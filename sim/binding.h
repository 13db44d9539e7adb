// Which of a machine's limits make a bound what it is.
#pragma once

#include <vector>

#include "tiering/base/executor.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::sim {

// Parts of the bound at these prices: of each resource the seconds that its load is priced at, and
// of each tier what the price of its whole capacity comes to, both over the bound. With a little
// more of one alone, by a part e, the bound falls by e times that part of itself, for it is a sum
// of price x load / rate and of price x (bytes - capacity). Those of the resources sum to 1 but for
// what is not converged; zeros where the bound is not above zero.
struct Binding {
  std::vector<double> resource;
  std::vector<double> room;  // by tier
};

// `instance` passed Check. Where the executor was stopped, zeros.
Binding FindBinding(const bound::Instance& instance, const bound::Prices& prices,
                    Executor& executor);

}  // namespace kvtier::sim
