// What somebody may have meant who wrote a name that there is not.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvtier::sim {

// Those of `names`, which are words with dots between, that `wrong` is near to: a third of its
// letters is another, missing, added or swapped at most, of the name or of its last words. Only
// the nearest, three at most. Takes time in proportion to all their letters, times `wrong`'s, of
// which only the first 80 count.
std::vector<std::string> NearestNames(absl::string_view wrong,
                                      const std::vector<std::string>& names);

}  // namespace kvtier::sim
