#include "sim/quantity.h"

#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kvtier::sim {
namespace {

using Wide = unsigned __int128;

constexpr size_t kTextBytesMax = 64;
constexpr uint64_t kBareCapacityMin = uint64_t{1} << 20;
constexpr int kDigitsMax = 19;  // with those behind the point: no product below overflows

bool IsBytes(Unit unit) { return unit == Unit::kBytes || unit == Unit::kCapacity; }

absl::string_view Kind(Unit unit) {
  switch (unit) {
    case Unit::kNone:
      return "a whole number";
    case Unit::kBytes:
    case Unit::kCapacity:
      return "a size such as 64GiB or 80GB";
    case Unit::kBytesPerSecond:
      return "a rate such as 450GB/s";
    case Unit::kFlopsPerSecond:
      return "a rate such as 989.5TFLOP/s";
    case Unit::kTime:
      return "a time such as 500ns or 2us";
  }
  return "";
}

absl::string_view Units(Unit unit) {
  switch (unit) {
    case Unit::kNone:
      return "";
    case Unit::kBytes:
    case Unit::kCapacity:
      return "B, kB, MB, GB, TB, PB and KiB, MiB, GiB, TiB, PiB";
    case Unit::kBytesPerSecond:
      return "B/s, kB/s, MB/s, GB/s, TB/s, PB/s and KiB/s to PiB/s";
    case Unit::kFlopsPerSecond:
      return "FLOP/s, kFLOP/s, MFLOP/s, GFLOP/s, TFLOP/s and PFLOP/s";
    case Unit::kTime:
      return "ns, us, ms and s";
  }
  return "";
}

// What one of `name` is; none: there is no such unit.
std::optional<uint64_t> Multiplier(absl::string_view name, Unit unit) {
  if (unit == Unit::kTime) {
    if (name == "ns") return 1;
    if (name == "us") return 1'000;
    if (name == "ms") return 1'000'000;
    if (name == "s") return 1'000'000'000;
    return std::nullopt;
  }
  if (unit == Unit::kNone) return name.empty() ? std::optional<uint64_t>(1) : std::nullopt;
  const bool bytes = IsBytes(unit);
  const absl::string_view suffix = bytes ? "B" : unit == Unit::kBytesPerSecond ? "B/s" : "FLOP/s";
  if (name.empty()) return bytes ? std::optional<uint64_t>(1) : std::nullopt;
  if (!absl::ConsumeSuffix(&name, suffix)) return std::nullopt;
  if (name.empty()) return 1;
  constexpr absl::string_view kPrefixes = "kMGTP";
  const bool binary = unit != Unit::kFlopsPerSecond && absl::ConsumeSuffix(&name, "i");
  if (name.size() != 1) return std::nullopt;
  const char first = binary && name[0] == 'K' ? 'k' : name[0];
  const size_t power = kPrefixes.find(first);
  if (power == absl::string_view::npos) return std::nullopt;
  uint64_t result = 1;
  for (size_t i = 0; i <= power; ++i) result *= binary ? 1024 : 1000;
  return result;
}

std::optional<Wide> Parse(absl::string_view text, Unit unit) {
  if (text.size() > kTextBytesMax) return std::nullopt;
  Wide digits = 0;
  Wide divisor = 1;
  int count = 0;
  bool point = false;
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (text[at] == '.' && !point && unit != Unit::kNone && at > 0) {
      point = true;
      continue;
    }
    if (!absl::ascii_isdigit(static_cast<unsigned char>(text[at]))) break;
    if (++count > kDigitsMax) return std::nullopt;
    digits = digits * 10 + static_cast<Wide>(text[at] - '0');
    if (point) divisor *= 10;
  }
  if (count == 0 || text[at - 1] == '.') return std::nullopt;
  const std::optional<uint64_t> multiplier =
      Multiplier(absl::StripLeadingAsciiWhitespace(text.substr(at)), unit);
  if (!multiplier) return std::nullopt;
  return (digits * *multiplier + divisor - 1) / divisor;
}

// So that limits read as they would be written.
std::string Written(uint64_t number, Unit unit) {
  constexpr absl::string_view kDecimal[] = {"", "k", "M", "G", "T", "P"};
  constexpr absl::string_view kBinary[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
  size_t power = 0;
  if (unit == Unit::kNone) return absl::StrCat(number);
  if (unit == Unit::kTime) return absl::StrCat(number, "ns");
  const uint64_t base = IsBytes(unit) ? 1024 : 1000;
  while (power < 5 && number >= base && number % base == 0) {
    number /= base;
    ++power;
  }
  const absl::string_view suffix = IsBytes(unit)                   ? "B"
                                   : unit == Unit::kBytesPerSecond ? "B/s"
                                                                   : "FLOP/s";
  return absl::StrCat(number, IsBytes(unit) ? kBinary[power] : kDecimal[power], suffix);
}

}  // namespace

absl::StatusOr<uint64_t> ParseQuantity(absl::string_view text, Unit unit, uint64_t min,
                                       uint64_t max) {
  const std::optional<Wide> number = Parse(text, unit);
  if (unit == Unit::kCapacity && number && *number > 0 && *number < kBareCapacityMin &&
      absl::ascii_isdigit(static_cast<unsigned char>(text.back()))) {
    return absl::InvalidArgumentError(absl::StrCat("is \"", text, "\", without a unit; ", text,
                                                   "GiB is a size, and ", text,
                                                   "B if so few bytes are meant"));
  }
  if (number && *number >= min && *number <= max) return static_cast<uint64_t>(*number);
  // It may be the unit that is none.
  const bool has_digits = !text.empty() && absl::ascii_isdigit(static_cast<unsigned char>(text[0]));
  const absl::string_view units = has_digits && !number ? Units(unit) : "";
  return absl::InvalidArgumentError(
      absl::StrCat("is \"", absl::CHexEscape(text.substr(0, kTextBytesMax)), "\"; ", Kind(unit),
                   " from ", Written(min, unit), " to ", Written(max, unit), " is needed",
                   units.empty() ? "" : "; units are ", units));
}

}  // namespace kvtier::sim
