#include "daemon/config_units.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvtier {
namespace {

struct Unit {
  absl::string_view name;
  uint64_t factor;
};
// Largest first, so that the writers find the shortest spelling first.
constexpr Unit kSizes[] = {{"TiB", 1ull << 40},
                           {"GiB", 1ull << 30},
                           {"MiB", 1ull << 20},
                           {"KiB", 1ull << 10},
                           {"B", 1},
                           {"", 1}};
constexpr Unit kDurations[] = {{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}, {"", 1}};
constexpr uint64_t kLargest = std::numeric_limits<int64_t>::max();

std::optional<uint64_t> ParseWithUnit(absl::string_view text, absl::Span<const Unit> units) {
  uint64_t value = 0;
  size_t digits = 0;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
    const uint64_t digit = static_cast<uint64_t>(text[digits] - '0');
    if (value > (kLargest - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  if (digits == 0) return std::nullopt;
  absl::string_view rest = text.substr(digits);
  if (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  for (const Unit& unit : units) {
    if (rest != unit.name) continue;
    if (value > kLargest / unit.factor) return std::nullopt;
    return value * unit.factor;
  }
  return std::nullopt;
}

std::string TextWithUnit(uint64_t value, absl::Span<const Unit> units) {
  for (const Unit& unit : units) {
    if (unit.factor > 1 && value != 0 && value % unit.factor == 0) {
      return absl::StrCat(value / unit.factor, unit.name);
    }
  }
  return absl::StrCat(value);
}

}  // namespace

std::optional<uint64_t> ParseSize(absl::string_view text) { return ParseWithUnit(text, kSizes); }

std::optional<uint64_t> ParseDuration(absl::string_view text) {
  return ParseWithUnit(text, kDurations);
}

std::optional<uint64_t> ParseOctal(absl::string_view text) {
  if (text.size() > 2 && text[0] == '0' && text[1] == 'o') text.remove_prefix(2);
  if (text.empty() || text.size() > 16) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value * 8 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

std::string SizeText(uint64_t bytes) { return TextWithUnit(bytes, kSizes); }

std::string DurationText(uint64_t milliseconds) {
  const std::string text = TextWithUnit(milliseconds, kDurations);
  // A bare number would read as something else to people.
  return text.back() >= '0' && text.back() <= '9' ? absl::StrCat(text, "ms") : text;
}

std::string Shortened(absl::string_view text) {
  return text.size() <= 80 ? std::string(text) : absl::StrCat(text.substr(0, 80), "...");
}

}  // namespace kvtier
