#include "sim/spec_reader.h"

#include <functional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "proto/yaml/config_tree.h"
#include "sim/built_in_specs.h"
#include "sim/input_file.h"
#include "sim/printable.h"
#include "sim/spec_fields.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

absl::Status At(absl::string_view file, int line, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(ConfigOrigin(file, line), ": ", what));
}

using SetField = std::function<absl::Status(absl::string_view path, absl::string_view value)>;

// Calls `set` with the path of each scalar, "tier.hbm.capacity", in order.
absl::Status SetAll(const ConfigNode& node, absl::string_view file, const std::string& path,
                    const SetField& set) {
  if (node.kind == ConfigNode::Kind::kScalar) {
    const absl::Status status = set(path, node.scalar);
    return status.ok() ? status : At(file, node.line, status.message());
  }
  if (node.kind != ConfigNode::Kind::kMap) {
    return At(file, node.line,
              absl::StrCat(path.empty() ? "the file" : path,
                           node.kind == ConfigNode::Kind::kList ? " is a list" : " is empty", "; ",
                           path.empty() ? "fields are" : "a value is", " needed"));
  }
  for (size_t i = 0; i < node.children.size(); ++i) {
    KVTIER_RETURN_IF_ERROR(
        SetAll(node.children[i], file,
               absl::StrCat(path, path.empty() ? "" : ".", node.keys[i].substr(0, 80)), set));
  }
  return absl::OkStatus();
}

// All fields but "name", which is returned.
absl::StatusOr<std::string> ReadFields(absl::string_view yaml, absl::string_view file,
                                       const SetField& set) {
  if (yaml.size() > kSpecBytesMax)
    return At(file, 0, absl::StrCat("has more than ", kSpecBytesMax, " bytes, which is the limit"));
  KVTIER_ASSIGN_OR_RETURN(const ConfigNode root, ParseConfigTree(yaml, file));
  std::string name;
  KVTIER_RETURN_IF_ERROR(
      SetAll(root, file, "", [&](absl::string_view path, absl::string_view value) {
        if (path != "name") return set(path, value);
        name = std::string(value);
        const bool fits = !name.empty() && name.size() <= kNameBytesMax && IsPrintable(name);
        if (fits) return absl::OkStatus();
        return absl::InvalidArgumentError(
            absl::StrCat("name is \"", absl::CHexEscape(value.substr(0, kNameBytesMax)),
                         "\"; 1 to ", kNameBytesMax, " printable ASCII characters are needed"));
      }));
  if (name.empty()) return At(file, 0, "there is no name");
  return name;
}

// The text of a built-in one or of a file, and what errors call it.
struct Found {
  std::string text;
  std::string file;
};

absl::StatusOr<Found> Find(const std::string& where, absl::string_view kind,
                           absl::Span<const BuiltInSpec> built_in) {
  for (const BuiltInSpec& spec : built_in) {
    if (spec.name == where) return Found{std::string(spec.yaml), where};
  }
  auto text = ReadInputFile(where, kSpecBytesMax);
  if (text.ok()) return Found{*std::move(text), where};
  if (!absl::IsNotFound(text.status())) return text.status();
  return absl::NotFoundError(
      absl::StrCat("there is no ", kind, " ", where, ": neither a file nor one of ",
                   absl::StrJoin(built_in, ", ", [](std::string* out, const BuiltInSpec& spec) {
                     out->append(spec.name.data(), spec.name.size());
                   })));
}

std::vector<std::string> Names(absl::Span<const BuiltInSpec> built_in) {
  std::vector<std::string> names;
  for (const BuiltInSpec& spec : built_in) names.emplace_back(spec.name);
  return names;
}

}  // namespace

absl::StatusOr<Machine> ParseMachine(absl::string_view yaml, absl::string_view file) {
  MachineFields fields;
  KVTIER_ASSIGN_OR_RETURN(
      const std::string name,
      ReadFields(yaml, file, [&](absl::string_view path, absl::string_view value) {
        return fields.Set(path, value, true);
      }));
  auto machine = fields.Build(name);
  return machine.ok() ? machine : At(file, 0, machine.status().message());
}

absl::StatusOr<ModelSpec> ParseModel(absl::string_view yaml, absl::string_view file) {
  ModelSpec model;
  KVTIER_ASSIGN_OR_RETURN(
      model.name, ReadFields(yaml, file, [&](absl::string_view path, absl::string_view value) {
        return SetModelField(path, value, model);
      }));
  const absl::Status status = CheckModel(model);
  if (!status.ok()) return At(file, 0, status.message());
  return model;
}

absl::StatusOr<Machine> ReadMachine(const std::string& where) {
  KVTIER_ASSIGN_OR_RETURN(const Found found, Find(where, "machine", BuiltInMachines()));
  return ParseMachine(found.text, found.file);
}

absl::StatusOr<ModelSpec> ReadModel(const std::string& where) {
  KVTIER_ASSIGN_OR_RETURN(const Found found, Find(where, "model", BuiltInModels()));
  return ParseModel(found.text, found.file);
}

std::vector<std::string> MachineNames() { return Names(BuiltInMachines()); }
std::vector<std::string> ModelNames() { return Names(BuiltInModels()); }

}  // namespace kvtier::sim
