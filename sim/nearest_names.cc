#include "sim/nearest_names.h"

#include <algorithm>
#include <cstddef>
#include <tuple>

namespace kvtier::sim {
namespace {

constexpr size_t kLettersMax = 80;
constexpr size_t kNamesMax = 3;

// Letters that are other ones, missing or added, and neighbours that are swapped.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before_last, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last = std::move(last);
    last = std::move(row);
    row.assign(b.size() + 1, i);
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] =
          std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> NearestNames(absl::string_view wrong,
                                      const std::vector<std::string>& names) {
  wrong = wrong.substr(0, kLettersMax);
  // Its distance, whether only the last words are that near, and its index.
  std::vector<std::tuple<size_t, bool, size_t>> near;
  for (size_t i = 0; i < names.size(); ++i) {
    const absl::string_view name = names[i];
    std::pair<size_t, bool> best = {Distance(wrong, name), false};
    for (size_t dot = name.find('.'); dot != absl::string_view::npos; dot = name.find('.', dot + 1))
      best = std::min(best, {Distance(wrong, name.substr(dot + 1)), true});
    if (best.first <= std::max<size_t>(1, wrong.size() / 3))
      near.emplace_back(best.first, best.second, i);
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> nearest;
  for (const auto& [distance, last_words, index] : near) {
    if (nearest.size() == kNamesMax || distance > std::get<0>(near.front())) break;
    nearest.push_back(names[index]);
  }
  return nearest;
}

}  // namespace kvtier::sim
