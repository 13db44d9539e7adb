#include "tiering/bound/option_hull.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvtier::bound {
namespace {

using Counts = std::array<int64_t, kResourcesMax + 1>;

Counts CountsOf(const Option& option) {
  Counts counts{};
  std::copy(option.per_byte.begin(), option.per_byte.end(), counts.begin());
  counts.back() = option.recomputes;
  return counts;
}

// Of one of its counts, without a copy of all.
int64_t CountOf(const Option& option, size_t at) {
  return at < kResourcesMax ? option.per_byte[at] : option.recomputes;
}

bool NowhereAbove(const Option& a, const Option& b) {
  for (size_t i = 0; i <= kResourcesMax; ++i) {
    if (CountOf(a, i) > CountOf(b, i)) return false;
  }
  return true;
}

// Whether some part t of b and 1 - t of c, 0 <= t <= 1, is nowhere above a: each count bounds t by
// a fraction of small integers, and the bounds have to leave something. Most pairs fail early.
bool MixNowhereAbove(const Option& a, const Option& b, const Option& c) {
  int64_t low = 0, low_of = 1, high = 1, high_of = 1;
  for (size_t i = 0; i <= kResourcesMax; ++i) {
    const int64_t of_c = CountOf(c, i);
    const int64_t slope = CountOf(b, i) - of_c;
    const int64_t room = CountOf(a, i) - of_c;
    if (slope == 0) {
      if (room < 0) return false;
      continue;
    }
    if (slope > 0 && room * high_of < high * slope) {
      high = room;
      high_of = slope;
    }
    if (slope < 0 && -room * low_of > low * -slope) {
      low = -room;
      low_of = -slope;
    }
    if (low * high_of > high * low_of) return false;
  }
  return true;
}

// How many counts are not zero: mixes lie inside what they mix, so what has many is tried first.
size_t Breadth(const Option& option) {
  const Counts counts = CountsOf(option);
  return counts.size() - static_cast<size_t>(std::count(counts.begin(), counts.end(), 0));
}

bool IsAboveMix(const std::vector<Option>& options, size_t at) {
  for (size_t b = 0; b < options.size(); ++b) {
    if (b == at) continue;
    for (size_t c = b + 1; c < options.size(); ++c) {
      if (c != at && MixNowhereAbove(options[at], options[b], options[c])) return true;
    }
  }
  return false;
}

}  // namespace

bool AddUndominated(std::vector<Option>& options, const Option& option) {
  for (const Option& other : options) {
    if (NowhereAbove(other, option)) return false;
  }
  options.erase(std::remove_if(options.begin(), options.end(),
                               [&](const Option& other) { return NowhereAbove(option, other); }),
                options.end());
  options.push_back(option);
  return true;
}

bool AddToHull(std::vector<Option>& options, const Option& option) {
  for (size_t b = 0; b < options.size(); ++b) {
    for (size_t c = b + 1; c < options.size(); ++c) {
      if (MixNowhereAbove(option, options[b], options[c])) return false;
    }
  }
  return AddUndominated(options, option);
}

std::vector<Option> LowerHull(std::vector<Option> options) {
  std::vector<Option> kept;
  for (const Option& option : options) AddUndominated(kept, option);
  std::sort(kept.begin(), kept.end(), [](const Option& a, const Option& b) {
    const size_t breadth_a = Breadth(a), breadth_b = Breadth(b);
    return breadth_a != breadth_b ? breadth_a > breadth_b : CountsOf(a) < CountsOf(b);
  });
  // What goes is above a mix of what is still there, and so in the end above a mix of what stays.
  for (size_t at = 0; at < kept.size();) {
    if (IsAboveMix(kept, at)) {
      kept.erase(kept.begin() + static_cast<ptrdiff_t>(at));
    } else {
      ++at;
    }
  }
  std::sort(kept.begin(), kept.end(),
            [](const Option& a, const Option& b) { return CountsOf(a) < CountsOf(b); });
  return kept;
}

}  // namespace kvtier::bound
