#include "sim/plan_axis.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "sim/machine.h"
#include "sim/trace_load.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

// Values of a range that does not say how many, and nobody else does: each is a bound that takes
// seconds or minutes.
constexpr uint32_t kFewAxesPoints = 5;
constexpr uint32_t kManyAxesPoints = 3;
constexpr size_t kFewAxesMax = 2;

absl::Status Problem(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--vary ", name.substr(0, 80), " ", what));
}

Unit UnitOf(absl::string_view name) {
  if (name == "load") return Unit::kNone;
  if (name == "compute") return Unit::kFlopsPerSecond;
  const bool rate = absl::StartsWith(name, "link.") || absl::EndsWith(name, ".bandwidth");
  return rate ? Unit::kBytesPerSecond : Unit::kCapacity;
}

// What stands behind the last digit.
absl::string_view UnitText(absl::string_view text) {
  const size_t digit = text.find_last_of("0123456789.");
  return digit == absl::string_view::npos ? text : text.substr(digit + 1);
}

absl::StatusOr<uint64_t> ParseValue(absl::string_view text, Unit unit) {
  const uint64_t max = unit == Unit::kNone             ? kLoadMax
                       : unit == Unit::kCapacity       ? kCapacityBytesMax
                       : unit == Unit::kBytesPerSecond ? kByteRateMax
                                                       : kFlopRateMax;
  const bool rate = unit == Unit::kBytesPerSecond || unit == Unit::kFlopsPerSecond;
  return ParseQuantity(text, unit, rate ? kRateMin : 1, max);
}

// To what values between two ends are rounded.
uint64_t Grain(Unit unit, uint64_t first, uint64_t last) {
  const uint64_t grain = unit == Unit::kCapacity ? 1 << 20 : unit == Unit::kNone ? 1 : 1'000'000;
  return first % grain == 0 && last % grain == 0 ? grain : 1;
}

std::vector<uint64_t> Between(uint64_t first, uint64_t last, uint32_t points, uint64_t grain) {
  std::vector<uint64_t> values = {first};
  const double ratio = static_cast<double>(last) / static_cast<double>(first);
  for (uint32_t i = 1; i + 1 < points; ++i) {
    const double value = static_cast<double>(first) *
                         std::pow(ratio, static_cast<double>(i) / static_cast<double>(points - 1));
    values.push_back(static_cast<uint64_t>(std::llround(value / static_cast<double>(grain))) *
                     grain);
  }
  values.push_back(last);
  return values;
}

absl::StatusOr<std::vector<uint64_t>> ParseRange(absl::string_view name, absl::string_view text,
                                                 Unit unit, uint32_t points) {
  const std::pair<absl::string_view, absl::string_view> ends =
      absl::StrSplit(text, absl::MaxSplits("..", 1));
  // "50GB/s" has a slash of its own; what counts values is a number.
  const size_t slash = ends.second.rfind('/');
  absl::string_view last_text = ends.second;
  uint32_t count = 0;
  bool counted = false;
  if (slash != absl::string_view::npos &&
      ends.second.substr(slash + 1).find_first_not_of("0123456789") == absl::string_view::npos) {
    last_text = ends.second.substr(0, slash);
    const absl::string_view count_text = ends.second.substr(slash + 1);
    counted = true;
    if (!absl::SimpleAtoi(count_text, &count) || count < 2 || count > kAxisValuesMax) {
      return Problem(name, absl::StrCat("has \"", count_text.substr(0, 20), "\" values; 2 to ",
                                        kAxisValuesMax, " are needed"));
    }
  }
  std::string first_text(ends.first);
  if (UnitText(first_text).empty()) absl::StrAppend(&first_text, UnitText(last_text));
  // The last one first: the first may have its unit from there.
  const auto last = ParseValue(last_text, unit);
  if (!last.ok()) return Problem(name, last.status().message());
  const auto first = ParseValue(first_text, unit);
  if (!first.ok()) return Problem(name, first.status().message());
  if (*first >= *last) {
    return Problem(name, absl::StrCat("goes from ", ends.first, " to ", last_text,
                                      "; the second has to be the larger one"));
  }
  if (!counted && unit == Unit::kNone) {
    std::vector<uint64_t> values(*last - *first + 1);
    std::iota(values.begin(), values.end(), *first);
    return values;
  }
  return Between(*first, *last, counted ? count : points, Grain(unit, *first, *last));
}

absl::StatusOr<std::vector<uint64_t>> ParseList(absl::string_view name, absl::string_view text,
                                                Unit unit) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ',');
  if (parts.size() > kAxisValuesMax) {
    return Problem(name,
                   absl::StrCat("has ", parts.size(), " values; the limit is ", kAxisValuesMax));
  }
  std::vector<uint64_t> values;
  for (const absl::string_view part : parts) {
    std::string value_text(part);
    if (!part.empty() && UnitText(part).empty())
      absl::StrAppend(&value_text, UnitText(parts.back()));
    const auto value = ParseValue(value_text, unit);
    if (!value.ok()) return Problem(name, value.status().message());
    values.push_back(*value);
  }
  return values;
}

}  // namespace

std::string PlanAxis::Override(uint64_t value) const {
  return absl::StrCat(name, "=", value,
                      unit == Unit::kBytesPerSecond   ? "B/s"
                      : unit == Unit::kFlopsPerSecond ? "FLOP/s"
                                                      : "B");
}

bool PlanAxis::Overlaps(const PlanAxis& other) const {
  const auto field = [](const PlanAxis& axis) {
    absl::string_view tier = axis.name;
    return absl::ConsumePrefix(&tier, "tier.") && absl::ConsumeSuffix(&tier, ".capacity")
               ? tier
               : absl::string_view(axis.name);
  };
  const absl::string_view a = field(*this), b = field(other);
  return a == b || absl::StartsWith(a, absl::StrCat(b, ".")) ||
         absl::StartsWith(b, absl::StrCat(a, "."));
}

absl::StatusOr<PlanAxis> ParsePlanAxis(absl::string_view text, uint32_t points) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (parts.first.empty() || parts.second.empty())
    return Problem(absl::StrCat("\"", text.substr(0, 60), "\""), "is not NAME=VALUES");
  if (absl::StartsWith(parts.first, "model."))
    return Problem(parts.first, "is the model's; what the machine has can be varied, and load");
  PlanAxis axis{.name = std::string(parts.first), .unit = UnitOf(parts.first), .values = {}};
  const bool range = absl::StrContains(parts.second, "..");
  KVTIER_ASSIGN_OR_RETURN(const std::vector<uint64_t> values,
                          range ? ParseRange(axis.name, parts.second, axis.unit, points)
                                : ParseList(axis.name, parts.second, axis.unit));
  for (const uint64_t value : values) {
    if (std::find(axis.values.begin(), axis.values.end(), value) == axis.values.end())
      axis.values.push_back(value);
  }
  return axis;
}

absl::StatusOr<std::vector<PlanAxis>> ParsePlanAxes(const std::vector<std::string>& texts,
                                                    uint32_t points, size_t combinations_max) {
  const bool chosen = points != 0;
  if (!chosen) points = texts.size() <= kFewAxesMax ? kFewAxesPoints : kManyAxesPoints;
  for (;; --points) {
    std::vector<PlanAxis> axes;
    size_t combinations = 1;
    for (const std::string& text : texts) {
      KVTIER_ASSIGN_OR_RETURN(PlanAxis axis, ParsePlanAxis(text, points));
      // No further than it matters, so that it cannot overflow.
      if (combinations <= combinations_max) combinations *= axis.values.size();
      axes.push_back(std::move(axis));
    }
    if (chosen || combinations <= combinations_max || points == 2) return axes;
  }
}

}  // namespace kvtier::sim
