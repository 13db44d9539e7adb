#include "client/cli/option_values.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"

namespace kvtier::cli {
namespace {

constexpr size_t kShownBytesMax = 64;  // of a value that is not allowed

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

// Well-formed as RFC 3629 has it: no surrogates, no overlong forms, nothing beyond U+10FFFF.
bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) -> unsigned {
      return at < text.size() ? static_cast<unsigned char>(text[at]) : 0;
    };
    const unsigned first = byte(i);
    const size_t more = first < 0x80   ? 0
                        : first < 0xc2 ? 9
                        : first < 0xe0 ? 1
                        : first < 0xf0 ? 2
                        : first < 0xf5 ? 3
                                       : 9;
    if (more == 9) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) return false;
    }
    const unsigned second = byte(i + 1);
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
      return false;
    }
    i += 1 + more;
  }
  return true;
}

// In quotes, without bytes that a terminal would not show.
std::string Shown(std::string_view text) {
  const std::string start(text.substr(0, kShownBytesMax));
  return absl::StrCat("\"",
                      IsUtf8(start) ? absl::Utf8SafeCHexEscape(start) : absl::CHexEscape(start),
                      text.size() > start.size() ? "..." : "", "\"");
}

// An option whose text `read` takes in or finds an error in.
CLI::Option* AddChecked(CLI::App& command, const std::string& name, const char* type,
                        const std::string& description,
                        std::function<absl::Status(const std::string&)> read) {
  return command
      .add_option_function<std::string>(
          name,
          [read = std::move(read)](const std::string& text) {
            if (absl::Status status = read(text); !status.ok())
              throw CLI::ValidationError(std::string(status.message()));
          },
          description)
      ->type_name(type);
}

absl::Status NotAllowed(const std::string& name, std::string_view text, std::string_view needed) {
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", Shown(text), "; ",
                                                 absl::string_view(needed.data(), needed.size()),
                                                 " is needed"));
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(const std::string& text) {
  const auto unit_at =
      static_cast<size_t>(std::find_if_not(text.begin(), text.end(), IsDigit) - text.begin());
  const std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(unit_at)));
  static constexpr const char* kUnits[] = {"", "kib", "mib", "gib", "tib"};
  uint64_t number = 0;
  if (unit_at > 0 && absl::SimpleAtoi(text.substr(0, unit_at), &number)) {
    for (int i = 0; i < 5; ++i) {
      const bool named = unit == kUnits[i] || (i == 0 && unit == "b");
      if (named && number <= (~uint64_t{0} >> 1 >> (10 * i))) return number << (10 * i);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      Shown(text), " is no size: write a number of bytes, or one with KiB, MiB, GiB or TiB"));
}

absl::StatusOr<absl::Duration> ParseTime(const std::string& text) {
  double seconds = 0;
  absl::Duration time;
  // A digit first: neither parser may see a sign, "inf" or "nan".
  if (!text.empty() && IsDigit(text[0])) {
    const bool plain = text.find_first_not_of("0123456789.") == std::string::npos;
    if (plain && absl::SimpleAtod(text, &seconds)) return absl::Seconds(seconds);
    if (!plain && absl::ParseDuration(text, &time)) return time;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Shown(text), " is no time: write seconds, or a number with ms, s, m or h"));
}

absl::Status CheckText(std::string_view what, std::string_view text, size_t bytes_max) {
  const absl::string_view name(what.data(), what.size());
  if (text.empty() || text.size() > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", text.size(), " bytes; 1 to ", bytes_max, " are allowed"));
  }
  if (IsUtf8(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is not UTF-8: ", Shown(text)));
}

CLI::Option* AddSizeOption(CLI::App& command, const std::string& name, uint64_t& value,
                           uint64_t min, uint64_t max, const std::string& description) {
  const std::string range = absl::StrCat(SizeText(min), " to ", SizeText(max));
  return AddChecked(command, name, "SIZE",
                    absl::StrCat(description, ", ", range, " (default ", SizeText(value), ")"),
                    [&value, min, max, name, range](const std::string& text) -> absl::Status {
                      const absl::StatusOr<uint64_t> size = ParseSize(text);
                      if (!size.ok()) {
                        return absl::InvalidArgumentError(
                            absl::StrCat(NotAllowed(name, text, "a size from " + range).message(),
                                         ": a number of bytes, or one with KiB, MiB, GiB or TiB"));
                      }
                      if (*size < min || *size > max)
                        return NotAllowed(name, text, "a size from " + range);
                      value = *size;
                      return absl::OkStatus();
                    });
}

CLI::Option* AddCountOption(CLI::App& command, const std::string& name, uint64_t& value,
                            uint64_t min, uint64_t max, const std::string& description) {
  const std::string range = absl::StrCat(min, " to ", max);
  return AddChecked(command, name, "NUMBER",
                    absl::StrCat(description, ", ", range, " (default ", value, ")"),
                    [&value, min, max, name, range](const std::string& text) -> absl::Status {
                      uint64_t number = 0;
                      if (!std::all_of(text.begin(), text.end(), IsDigit) ||
                          !absl::SimpleAtoi(text, &number) || number < min || number > max) {
                        return NotAllowed(name, text, "a whole number from " + range);
                      }
                      value = number;
                      return absl::OkStatus();
                    });
}

CLI::Option* AddTimeOption(CLI::App& command, const std::string& name, absl::Duration& value,
                           absl::Duration min, absl::Duration max, const std::string& description) {
  return AddChecked(command, name, "TIME", description,
                    [&value, min, max, name](const std::string& text) -> absl::Status {
                      const absl::StatusOr<absl::Duration> time = ParseTime(text);
                      if (!time.ok() || *time < min || *time > max) {
                        return NotAllowed(
                            name, text,
                            absl::StrCat("a time from ", absl::FormatDuration(min), " to ",
                                         absl::FormatDuration(max), ", such as 10, 10s or 500ms,"));
                      }
                      value = *time;
                      return absl::OkStatus();
                    });
}

CLI::Option* AddTextOption(CLI::App& command, const std::string& name, std::string& value,
                           size_t bytes_max, const std::string& description) {
  return AddChecked(command, name, "TEXT", description,
                    [&value, bytes_max, name](const std::string& text) -> absl::Status {
                      if (absl::Status status = CheckText(name, text, bytes_max); !status.ok())
                        return status;
                      value = text;
                      return absl::OkStatus();
                    });
}

}  // namespace kvtier::cli
