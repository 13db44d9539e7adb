#include "daemon/config_defaults.h"

#include <google/protobuf/descriptor.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/config_limits.h"
#include "tiering/base/check.h"

namespace kvtier {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void ApplyConfigDefaults(absl::string_view table_path, Message* message) {
  const Descriptor* descriptor = message->GetDescriptor();
  const Reflection* reflection = message->GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->is_repeated()) continue;
    const std::string path =
        table_path.empty() ? field->name() : absl::StrCat(table_path, ".", field->name());
    if (field->message_type() != nullptr) {
      ApplyConfigDefaults(path, reflection->MutableMessage(message, field));
      continue;
    }
    const FieldLimit* limit = FindLimit(path);
    KVTIER_CHECK(limit != nullptr);
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT32:
        reflection->SetUInt32(message, field, static_cast<uint32_t>(limit->default_number));
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection->SetUInt64(message, field, static_cast<uint64_t>(limit->default_number));
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        reflection->SetInt32(message, field, static_cast<int32_t>(limit->default_number));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection->SetDouble(message, field, limit->default_fraction);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection->SetBool(message, field, limit->default_number != 0);
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        if (limit->kind == FieldKind::kChoice &&
            absl::string_view(limit->default_text) != "required") {
          reflection->SetString(message, field, limit->default_text);
        }
        break;
      default:
        KVTIER_CHECK(false);
    }
  }
}

}  // namespace kvtier
