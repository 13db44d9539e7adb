#include "daemon/config_mapper.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "daemon/config_defaults.h"
#include "daemon/config_limits.h"
#include "daemon/config_scalar.h"
#include "daemon/config_units.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Where a value stands: as people read it ("pools[1].name") and as the table names it
// ("pools[].name").
struct Place {
  std::string path;
  std::string table_path;

  Place Member(absl::string_view field) const {
    return path.empty()
               ? Place{std::string(field), std::string(field)}
               : Place{absl::StrCat(path, ".", field), absl::StrCat(table_path, ".", field)};
  }
  Place Entry(size_t index) const {
    return {absl::StrCat(path, "[", index, "]"), absl::StrCat(table_path, "[]")};
  }
  Place Value(absl::string_view key) const {
    return {absl::StrCat(path, ".", key), absl::StrCat(table_path, "{}")};
  }
};

class TreeMapper {
 public:
  TreeMapper(absl::string_view name, ConfigOrigins* origins) : name_(name), origins_(origins) {}

  absl::Status MapMessage(const ConfigNode& node, const Place& place, Message* message) {
    if (node.kind == ConfigNode::Kind::kNull) return absl::OkStatus();
    if (node.kind != ConfigNode::Kind::kMap) {
      return Error(node.line, place, "must be a map of fields");
    }
    const Descriptor* descriptor = message->GetDescriptor();
    for (size_t i = 0; i < node.keys.size(); ++i) {
      const Place member = place.Member(Shortened(node.keys[i]));
      const FieldDescriptor* field = descriptor->FindFieldByName(node.keys[i]);
      if (field == nullptr) {
        return Error(node.key_lines[i], member,
                     absl::StrCat("unknown field; known are ", Names(descriptor)));
      }
      const ConfigNode& value = node.children[i];
      if (value.kind == ConfigNode::Kind::kNull && field->message_type() == nullptr) {
        return Error(node.key_lines[i], member, "has no value");
      }
      (*origins_)[member.path] = ConfigOrigin(name_, node.key_lines[i]);
      KVTIER_RETURN_IF_ERROR(MapField(value, member, field, message));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Error(int line, const Place& place, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(ConfigOrigin(name_, line), ": ",
                     place.path.empty() ? "the configuration" : place.path, ": ", what));
  }

  static std::string Names(const Descriptor* descriptor) {
    std::vector<std::string> names;
    names.reserve(static_cast<size_t>(descriptor->field_count()));
    for (int i = 0; i < descriptor->field_count(); ++i)
      names.push_back(descriptor->field(i)->name());
    return absl::StrJoin(names, ", ");
  }

  absl::Status MapField(const ConfigNode& node, const Place& place, const FieldDescriptor* field,
                        Message* message) {
    const Reflection* reflection = message->GetReflection();
    if (field->is_map()) return MapMap(node, place, field, message);
    if (field->is_repeated()) return MapList(node, place, field, message);
    if (field->message_type() != nullptr) {
      return MapMessage(node, place, reflection->MutableMessage(message, field));
    }
    ScalarValue value;
    KVTIER_RETURN_IF_ERROR(ReadScalar(node, place, &value));
    SetScalar(value, field, message, /*add=*/false);
    return absl::OkStatus();
  }

  absl::Status CheckCount(const ConfigNode& node, const Place& place, size_t count) const {
    const FieldLimit* limit = FindLimit(place.table_path);
    KVTIER_CHECK(limit != nullptr);
    if (static_cast<int64_t>(count) < limit->minimum ||
        static_cast<int64_t>(count) > limit->maximum) {
      return Error(node.line, place,
                   absl::StrCat("has ", count, " entries (allowed: ", RangeText(*limit), ")"));
    }
    return absl::OkStatus();
  }

  absl::Status MapList(const ConfigNode& node, const Place& place, const FieldDescriptor* field,
                       Message* message) {
    if (node.kind != ConfigNode::Kind::kList) return Error(node.line, place, "must be a list");
    KVTIER_RETURN_IF_ERROR(CheckCount(node, place, node.children.size()));
    const Reflection* reflection = message->GetReflection();
    reflection->ClearField(message, field);
    for (size_t i = 0; i < node.children.size(); ++i) {
      const Place entry = place.Entry(i);
      (*origins_)[entry.path] = ConfigOrigin(name_, node.children[i].line);
      if (field->message_type() != nullptr) {
        Message* added = reflection->AddMessage(message, field);
        ApplyConfigDefaults(entry.table_path, added);
        KVTIER_RETURN_IF_ERROR(MapMessage(node.children[i], entry, added));
        continue;
      }
      ScalarValue value;
      KVTIER_RETURN_IF_ERROR(ReadScalar(node.children[i], entry, &value));
      SetScalar(value, field, message, /*add=*/true);
    }
    return absl::OkStatus();
  }

  absl::Status MapMap(const ConfigNode& node, const Place& place, const FieldDescriptor* field,
                      Message* message) {
    if (node.kind != ConfigNode::Kind::kMap) return Error(node.line, place, "must be a map");
    KVTIER_RETURN_IF_ERROR(CheckCount(node, place, node.children.size()));
    const Reflection* reflection = message->GetReflection();
    reflection->ClearField(message, field);
    for (size_t i = 0; i < node.children.size(); ++i) {
      const Place entry = place.Value(Shortened(node.keys[i]));
      (*origins_)[entry.path] = ConfigOrigin(name_, node.key_lines[i]);
      ScalarValue value;
      KVTIER_RETURN_IF_ERROR(ReadScalar(node.children[i], entry, &value));
      Message* pair = reflection->AddMessage(message, field);
      pair->GetReflection()->SetString(pair, field->message_type()->map_key(), node.keys[i]);
      SetScalar(value, field->message_type()->map_value(), pair, /*add=*/false);
    }
    return absl::OkStatus();
  }

  absl::Status ReadScalar(const ConfigNode& node, const Place& place, ScalarValue* value) const {
    const FieldLimit* limit = FindLimit(place.table_path);
    KVTIER_CHECK(limit != nullptr);
    const absl::Status read = ReadConfigScalar(node, *limit, value);
    return read.ok() ? read : Error(node.line, place, read.message());
  }

  static void SetScalar(const ScalarValue& value, const FieldDescriptor* field, Message* message,
                        bool add) {
    const Reflection* r = message->GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT32: {
        const auto number = static_cast<uint32_t>(value.number);
        add ? r->AddUInt32(message, field, number) : r->SetUInt32(message, field, number);
        break;
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        const auto number = static_cast<uint64_t>(value.number);
        add ? r->AddUInt64(message, field, number) : r->SetUInt64(message, field, number);
        break;
      }
      case FieldDescriptor::CPPTYPE_INT32:
        r->SetInt32(message, field, static_cast<int32_t>(value.number));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        add ? r->AddDouble(message, field, value.fraction)
            : r->SetDouble(message, field, value.fraction);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        r->SetBool(message, field, value.flag);
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        r->SetString(message, field, value.text);
        break;
      default:
        KVTIER_CHECK(false);
    }
  }

  std::string name_;
  ConfigOrigins* origins_;
};

}  // namespace

absl::Status MapConfigTree(const ConfigNode& root, absl::string_view name, v1::Config* config,
                           ConfigOrigins* origins) {
  return TreeMapper(name, origins).MapMessage(root, Place{}, config);
}

}  // namespace kvtier
