#include "sim/spec_fields.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "sim/nearest_names.h"
#include "sim/quantity.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

absl::Status Problem(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(absl::CHexEscape(path.substr(0, 80)), " ", what));
}

template <typename Number>
absl::Status SetNumber(absl::string_view path, absl::string_view value, Unit unit, uint64_t min,
                       uint64_t max, Number& number) {
  auto parsed = ParseQuantity(value, unit, min, max);
  if (!parsed.ok()) return Problem(path, parsed.status().message());
  number = static_cast<Number>(*parsed);
  return absl::OkStatus();
}

// One of a few words.
template <typename T>
absl::Status SetChoice(absl::string_view path, absl::string_view value,
                       std::initializer_list<std::pair<absl::string_view, T>> choices, T& choice) {
  std::vector<absl::string_view> words;
  for (const auto& [word, meaning] : choices) {
    words.push_back(word);
    if (value != word) continue;
    choice = meaning;
    return absl::OkStatus();
  }
  return Problem(path, absl::StrCat("is \"", absl::CHexEscape(value.substr(0, 64)), "\"; ",
                                    absl::StrJoin(words, " or "), " is needed"));
}

// A name of a tier or a link: it becomes a part of paths and of the names of results.
bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

struct SmallField {
  const char* name;
  uint32_t ModelSpec::*member;
};
constexpr uint64_t kSmallMax = 1 << 16;
constexpr SmallField kSmallFields[] = {
    {"layers", &ModelSpec::layers},         {"query_heads", &ModelSpec::query_heads},
    {"kv_heads", &ModelSpec::kv_heads},     {"head_dim", &ModelSpec::head_dim},
    {"latent_dim", &ModelSpec::latent_dim}, {"bytes_per_value", &ModelSpec::bytes_per_value},
    {"score_dim", &ModelSpec::score_dim},   {"value_dim", &ModelSpec::value_dim}};
struct LargeField {
  const char* name;
  uint64_t ModelSpec::*member;
  Unit unit;
};
constexpr LargeField kLargeFields[] = {
    {"weight_bytes", &ModelSpec::weight_bytes, Unit::kBytes},
    {"pass_weight_bytes", &ModelSpec::pass_weight_bytes, Unit::kBytes},
    {"active_parameters", &ModelSpec::active_parameters, Unit::kNone}};

std::vector<std::string> ModelFieldNames() {
  std::vector<std::string> names;
  for (const SmallField& small : kSmallFields) names.emplace_back(small.name);
  for (const LargeField& large : kLargeFields) names.emplace_back(large.name);
  return names;
}

// Where there is no field `path`: ": did you mean A or B?", as far as there is one like it.
std::string Meant(absl::string_view path, const MachineFields& fields) {
  std::vector<std::string> paths = fields.Paths();
  for (const std::string& name : ModelFieldNames()) paths.push_back("model." + name);
  if (std::find(paths.begin(), paths.end(), path) != paths.end()) return {};
  const std::vector<std::string> nearest = NearestNames(path, paths);
  return nearest.empty() ? std::string()
                         : absl::StrCat(": did you mean ", absl::StrJoin(nearest, " or "), "?");
}

template <typename Items, typename Name>
auto Find(Items& items, absl::string_view name, Name name_of) {
  return std::find_if(items.begin(), items.end(),
                      [&](const auto& item) { return name_of(item) == name; });
}

}  // namespace

MachineFields::MachineFields(const Machine& machine) : machine_(machine) {
  for (const MachineTier& tier : machine.tiers) {
    tiers_.push_back({tier, tier.link ? tier.link->name : ""});
    if (!tier.link) continue;
    const auto same =
        Find(links_, tier.link->name, [](const MachineLink& link) { return link.name; });
    if (same == links_.end()) links_.push_back(*tier.link);
  }
}

absl::Status MachineFields::Set(absl::string_view path, absl::string_view value, bool create) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '.');
  if (path == "compute") {
    return SetNumber(path, value, Unit::kFlopsPerSecond, kRateMin, kFlopRateMax,
                     machine_.flops_per_second);
  }
  if (path == "read") {
    return SetChoice<ReadMode>(path, value,
                               {{"in_place", ReadMode::kInPlace}, {"stream", ReadMode::kStream}},
                               machine_.read_mode);
  }
  if (path == "inclusive")
    return SetChoice<bool>(path, value, {{"true", true}, {"false", false}}, machine_.inclusive);
  if (parts.size() == 3 && parts[0] == "tier")
    return SetTier(path, parts[1], parts[2], value, create);
  if (parts[0] == "link" && (parts.size() == 3 || (parts.size() == 2 && !create)))
    return SetLink(path, parts[1], parts.size() == 3 ? parts[2] : "", value, create);
  return Problem(path,
                 "is no field; there are compute, read, inclusive, tier.NAME.{kind, capacity, "
                 "bandwidth, latency, link} and link.NAME.{to_gpu, from_gpu, latency}");
}

absl::Status MachineFields::SetTier(absl::string_view path, absl::string_view name,
                                    absl::string_view field, absl::string_view value, bool create) {
  auto found = Find(tiers_, name, [](const Tier& item) { return item.tier.name; });
  if (found == tiers_.end()) {
    if (!create || !IsName(name) || tiers_.size() >= kMachineTiersMax) {
      return Problem(
          path,
          create ? absl::StrCat("names one tier more than the ", kMachineTiersMax,
                                " there may be, or is no name of a-z, 0-9, _ and -")
                 : absl::StrCat("names no tier; there are ",
                                absl::StrJoin(tiers_, ", ", [](std::string* out, const Tier& item) {
                                  out->append(item.tier.name);
                                })));
    }
    tiers_.push_back({});
    found = tiers_.end() - 1;
    found->tier.name = std::string(name);
  }
  MachineTier& tier = found->tier;
  if (field == "kind") {
    return SetChoice<TierKind>(
        path, value,
        {{"hbm", TierKind::kHbm}, {"peer", TierKind::kPeer}, {"dram", TierKind::kDram}}, tier.kind);
  }
  if (field == "capacity")
    return SetNumber(path, value, Unit::kCapacity, 1, kCapacityBytesMax, tier.capacity_bytes);
  if (field == "bandwidth") {
    return SetNumber(path, value, Unit::kBytesPerSecond, kRateMin, kByteRateMax,
                     tier.bytes_per_second);
  }
  if (field == "latency")
    return SetNumber(path, value, Unit::kTime, 0, kLatencyNsMax, tier.latency_ns);
  if (field == "link" && create && IsName(value)) {
    found->link = std::string(value);
    return absl::OkStatus();
  }
  return Problem(path, "is no field; a tier has kind, capacity, bandwidth, latency and link");
}

absl::Status MachineFields::SetLink(absl::string_view path, absl::string_view name,
                                    absl::string_view field, absl::string_view value, bool create) {
  auto link = Find(links_, name, [](const MachineLink& item) { return item.name; });
  if (link == links_.end()) {
    if (!create || !IsName(name) || links_.size() >= kMachineTiersMax) {
      return Problem(
          path, create ? absl::StrCat("names one link more than the ", kMachineTiersMax,
                                      " there may be, or is no name of a-z, 0-9, _ and -")
                       : absl::StrCat("names no link; there are ",
                                      absl::StrJoin(links_, ", ",
                                                    [](std::string* out, const MachineLink& item) {
                                                      out->append(item.name);
                                                    })));
    }
    links_.push_back({});
    link = links_.end() - 1;
    link->name = std::string(name);
  }
  if (field == "latency")
    return SetNumber(path, value, Unit::kTime, 0, kLatencyNsMax, link->latency_ns);
  if (field != "to_gpu" && field != "from_gpu" && !field.empty())
    return Problem(path, "is no field; a link has to_gpu, from_gpu and latency");
  if (field != "from_gpu") {
    KVTIER_RETURN_IF_ERROR(SetNumber(path, value, Unit::kBytesPerSecond, kRateMin, kByteRateMax,
                                     link->to_gpu_bytes_per_second));
  }
  if (field != "to_gpu") {
    KVTIER_RETURN_IF_ERROR(SetNumber(path, value, Unit::kBytesPerSecond, kRateMin, kByteRateMax,
                                     link->from_gpu_bytes_per_second));
  }
  return absl::OkStatus();
}

std::vector<std::string> MachineFields::Paths() const {
  std::vector<std::string> paths = {"compute", "read", "inclusive"};
  for (const Tier& item : tiers_) {
    paths.push_back(item.tier.name);
    for (const char* const field : {"kind", "capacity", "bandwidth", "latency"})
      paths.push_back(absl::StrCat("tier.", item.tier.name, ".", field));
  }
  for (const MachineLink& link : links_) {
    for (const char* const field : {"", ".to_gpu", ".from_gpu", ".latency"})
      paths.push_back(absl::StrCat("link.", link.name, field));
  }
  return paths;
}

absl::StatusOr<Machine> MachineFields::Build(absl::string_view name) const {
  Machine machine = machine_;
  machine.name = std::string(name);
  machine.tiers.clear();
  for (const Tier& item : tiers_) {
    MachineTier tier = item.tier;
    tier.link.reset();
    if (!item.link.empty()) {
      const auto link = Find(links_, item.link, [](const MachineLink& one) { return one.name; });
      if (link == links_.end()) {
        return Problem(absl::StrCat("tier.", tier.name, ".link"),
                       absl::StrCat("is \"", item.link, "\", and there is no such link"));
      }
      tier.link = *link;
    }
    machine.tiers.push_back(std::move(tier));
  }
  for (const MachineLink& link : links_) {
    if (Find(tiers_, link.name, [](const Tier& item) { return item.link; }) == tiers_.end())
      return Problem(absl::StrCat("link.", link.name), "leads to no tier");
  }
  KVTIER_RETURN_IF_ERROR(CheckMachine(machine));
  return machine;
}

absl::Status SetModelField(absl::string_view field, absl::string_view value, ModelSpec& model) {
  for (const SmallField& small : kSmallFields) {
    if (field == small.name)
      return SetNumber(field, value, Unit::kNone, 0, kSmallMax, model.*small.member);
  }
  for (const LargeField& large : kLargeFields) {
    if (field == large.name)
      return SetNumber(field, value, large.unit, 0, kCapacityBytesMax, model.*large.member);
  }
  return Problem(field,
                 absl::StrCat("is no field; a model has ", absl::StrJoin(ModelFieldNames(), ", ")));
}

absl::Status ApplyOverrides(const std::vector<std::string>& overrides, Machine& machine,
                            ModelSpec& model) {
  MachineFields fields(machine);
  ModelSpec changed = model;
  for (const std::string& text : overrides) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(text, absl::MaxSplits('=', 1));
    std::string path(parts.first);
    absl::Status status;
    if (FindTier(machine, path)) path = absl::StrCat("tier.", path, ".capacity");
    if (!absl::StrContains(text, '=')) {
      status = Problem(text, "has no =; PATH=VALUE is needed");
    } else if (absl::StartsWith(path, "model.")) {
      status = SetModelField(absl::StripPrefix(path, "model."), parts.second, changed);
      if (!status.ok()) status = Problem("model:", status.message());
    } else {
      status = fields.Set(path, parts.second, false);
    }
    if (!status.ok())
      return absl::InvalidArgumentError(absl::StrCat(status.message(), Meant(path, fields)));
  }
  KVTIER_RETURN_IF_ERROR(CheckModel(changed));
  KVTIER_ASSIGN_OR_RETURN(machine, fields.Build(machine.name));
  model = changed;
  return absl::OkStatus();
}

}  // namespace kvtier::sim
