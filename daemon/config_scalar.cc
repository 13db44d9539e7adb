#include "daemon/config_scalar.h"

#include <cmath>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "daemon/config_units.h"
#include "tiering/base/check.h"

namespace kvtier {
absl::Status ReadConfigScalar(const ConfigNode& node, const FieldLimit& limit, ScalarValue* value) {
  if (node.kind != ConfigNode::Kind::kScalar) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be one value (allowed: ", RangeText(limit), ")"));
  }
  const std::string& text = node.scalar;
  const auto refuse = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", Shortened(text), "` ", what, " (allowed: ", RangeText(limit), ")"));
  };
  std::optional<uint64_t> number;
  switch (limit.kind) {
    case FieldKind::kText:
      if (static_cast<int64_t>(text.size()) < limit.minimum ||
          static_cast<int64_t>(text.size()) > limit.maximum) {
        return refuse(absl::StrCat("has ", text.size(), " bytes"));
      }
      if (text.find('\0') != std::string::npos) return refuse("contains a zero byte");
      value->text = text;
      return absl::OkStatus();
    case FieldKind::kChoice:
      for (const absl::string_view choice : absl::StrSplit(limit.choices, '|')) {
        if (text != choice) continue;
        value->text = text;
        return absl::OkStatus();
      }
      return refuse("is not known");
    case FieldKind::kFlag:
      if (node.quoted || (text != "true" && text != "false"))
        return refuse("is neither true nor false");
      value->flag = text == "true";
      return absl::OkStatus();
    case FieldKind::kFraction:
      if (node.quoted || !absl::SimpleAtod(text, &value->fraction) ||
          !std::isfinite(value->fraction)) {
        return refuse("is not a number");
      }
      if (value->fraction < limit.fraction_minimum || value->fraction > limit.fraction_maximum) {
        return refuse("is out of range");
      }
      return absl::OkStatus();
    case FieldKind::kNumber:
      if (node.quoted || !absl::SimpleAtoi(text, &value->number))
        return refuse("is not a whole number");
      break;
    case FieldKind::kBytes:
      number = ParseSize(text);
      break;
    case FieldKind::kMilliseconds:
      number = ParseDuration(text);
      break;
    case FieldKind::kOctal:
      number = ParseOctal(text);
      break;
    case FieldKind::kList:
      KVTIER_CHECK(false);
  }
  if (limit.kind == FieldKind::kBytes && !number) {
    return refuse(
        "is not a size: a whole number with B, KiB, MiB, GiB, TiB or nothing, below 2^63");
  }
  if (limit.kind == FieldKind::kMilliseconds && !number) {
    return refuse("is not a time: a whole number with ms, s, m, h or nothing, below 2^63");
  }
  if (limit.kind == FieldKind::kOctal && !number) return refuse("is not an octal number");
  if (number) value->number = static_cast<int64_t>(*number);
  if (value->number < limit.minimum || value->number > limit.maximum)
    return refuse("is out of range");
  return absl::OkStatus();
}

}  // namespace kvtier
