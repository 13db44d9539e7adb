#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "daemon/config_limits.h"
#include "daemon/config_loader.h"
#include "daemon/config_units.h"

namespace kvtier {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// A double-quoted YAML scalar. Bytes outside ASCII stay as they are (YAML is UTF-8).
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string NumberText(absl::string_view table_path, uint64_t value) {
  const FieldLimit* limit = FindLimit(table_path);
  switch (limit == nullptr ? FieldKind::kNumber : limit->kind) {
    case FieldKind::kBytes:
      return SizeText(value);
    case FieldKind::kMilliseconds:
      return DurationText(value);
    case FieldKind::kOctal:
      return absl::StrFormat("0%03o", value);
    default:
      return absl::StrCat(value);
  }
}

// The shortest decimal that reads back as the same number.
std::string FractionText(double value) {
  for (int digits = 6; digits < 17; ++digits) {
    std::string text = absl::StrFormat("%.*g", digits, value);
    double back = 0;
    if (absl::SimpleAtod(text, &back) && back == value) return text;
  }
  return absl::StrFormat("%.17g", value);
}

std::string ScalarText(const Message& message, const FieldDescriptor* field, int index,
                       absl::string_view table_path) {
  const Reflection* r = message.GetReflection();
  const bool repeated = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return NumberText(table_path, repeated ? r->GetRepeatedUInt32(message, field, index)
                                             : r->GetUInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return NumberText(table_path, repeated ? r->GetRepeatedUInt64(message, field, index)
                                             : r->GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(r->GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return FractionText(repeated ? r->GetRepeatedDouble(message, field, index)
                                   : r->GetDouble(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r->GetBool(message, field) ? "true" : "false";
    default:
      return Quoted(r->GetString(message, field));
  }
}

constexpr absl::string_view kSaltPath = "tenants[].salt";

void WriteMessage(const Message& message, const std::string& table_path, int indent, Salts salts,
                  std::string* yaml);

void WriteList(const Message& message, const FieldDescriptor* field, const std::string& path,
               int indent, Salts salts, std::string* yaml) {
  const Reflection* r = message.GetReflection();
  const int count = r->FieldSize(message, field);
  // Lists that are empty have nothing to say; an empty one may not even be allowed.
  if (count == 0) return;
  const std::string margin(static_cast<size_t>(indent), ' ');
  if (field->is_map()) {
    absl::StrAppend(yaml, margin, field->name(), ":\n");
    std::map<std::string, std::string> sorted;
    for (int i = 0; i < count; ++i) {
      const Message& pair = r->GetRepeatedMessage(message, field, i);
      sorted[pair.GetReflection()->GetString(pair, field->message_type()->map_key())] =
          ScalarText(pair, field->message_type()->map_value(), 0, path + "{}");
    }
    for (const auto& [key, value] : sorted)
      absl::StrAppend(yaml, margin, "  ", Quoted(key), ": ", value, "\n");
    return;
  }
  if (field->message_type() == nullptr) {
    absl::StrAppend(yaml, margin, field->name(), ": [");
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(yaml, i == 0 ? "" : ", ", ScalarText(message, field, i, path + "[]"));
    }
    absl::StrAppend(yaml, "]\n");
    return;
  }
  absl::StrAppend(yaml, margin, field->name(), ":\n");
  for (int i = 0; i < count; ++i) {
    std::string entry;
    WriteMessage(r->GetRepeatedMessage(message, field, i), path + "[]", indent + 4, salts, &entry);
    // The dash replaces part of the first line's margin.
    entry[static_cast<size_t>(indent) + 2] = '-';
    absl::StrAppend(yaml, entry);
  }
}

void WriteMessage(const Message& message, const std::string& table_path, int indent, Salts salts,
                  std::string* yaml) {
  const auto* descriptor = message.GetDescriptor();
  const std::string margin(static_cast<size_t>(indent), ' ');
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const std::string path =
        table_path.empty() ? field->name() : absl::StrCat(table_path, ".", field->name());
    if (field->is_repeated()) {
      WriteList(message, field, path, indent, salts, yaml);
    } else if (field->message_type() != nullptr) {
      absl::StrAppend(yaml, margin, field->name(), ":\n");
      WriteMessage(message.GetReflection()->GetMessage(message, field), path, indent + 2, salts,
                   yaml);
    } else if (path == kSaltPath && salts == Salts::kHide &&
               !message.GetReflection()->GetString(message, field).empty()) {
      absl::StrAppend(yaml, margin, "# salt: left out; --show-salts prints it\n");
    } else {
      absl::StrAppend(yaml, margin, field->name(), ": ", ScalarText(message, field, 0, path), "\n");
    }
  }
}

}  // namespace

std::string ConfigToYaml(const v1::Config& config, Salts salts) {
  std::string yaml;
  WriteMessage(config, "", 0, salts, &yaml);
  return yaml;
}

}  // namespace kvtier
