#include "sim/json_record.h"

#include <cmath>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/trace.h"

namespace kvtier::sim {
namespace {

constexpr size_t kShownBytesMax = 64;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// A value as an error shows it.
std::string Shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return absl::StrCat("a list of ", value.size());
  if (value.is_string() && value.get_ref<const std::string&>().size() > kShownBytesMax)
    return absl::StrCat("a text of ", value.get_ref<const std::string&>().size(), " bytes");
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

// A name that an object has twice, which the parser would take the last of.
class RepeatedName {
 public:
  void See(Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      names_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      names_.pop_back();
    } else if (event == Json::parse_event_t::key &&
               !names_.back().insert(parsed.get_ref<const std::string&>()).second) {
      name_ = parsed;
    }
  }
  // The last that was seen; null if there was none.
  const Json& name() const { return name_; }

 private:
  std::vector<absl::flat_hash_set<std::string>> names_;  // of the objects that are open
  Json name_;
};

bool IsCount(const Json& value) {
  return value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, const std::string& place, int depth_max) {
  bool deep = false;
  RepeatedName repeated;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    deep = deep || depth > depth_max;
    if (!deep) repeated.See(event, parsed);
    return depth <= depth_max;
  };
  std::string problem;
  try {
    Json value = Json::parse(text.begin(), text.end(), check);
    if (!deep && repeated.name().is_null()) return value;
  } catch (const Json::exception& error) {
    problem = error.what();
  }
  if (deep) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": nested too deeply; the limit is ", depth_max, " levels"));
  }
  if (problem.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": field ", Shown(repeated.name()), " is there twice"));
  }
  // "[json.exception.parse_error.101] parse error at line 1, column 7: ..."
  const size_t kind_end = problem.find("] ");
  if (kind_end != std::string::npos) problem.erase(0, kind_end + 2);
  // The place says which line a text of one line is.
  constexpr std::string_view kFirstLine = " line 1,";
  const size_t line_at = problem.find(kFirstLine);
  if (line_at != std::string::npos && text.find('\n') == std::string_view::npos)
    problem.erase(line_at, kFirstLine.size());
  if (problem.size() > 200) problem.resize(200);
  return absl::InvalidArgumentError(absl::StrCat(place, ": no JSON: ", problem));
}

absl::StatusOr<JsonRecord> JsonRecord::Of(const Json& value, std::string place) {
  if (value.is_object()) return JsonRecord(&value, std::move(place));
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": is ", Shown(value), "; an object is needed"));
}

absl::Status JsonRecord::Error(std::string_view problem) const {
  return absl::InvalidArgumentError(absl::StrCat(place_, ": ", View(problem)));
}

absl::Status JsonRecord::NotAllowed(const char* field, const Json& value,
                                    const std::string& needed) const {
  return Error(absl::StrCat(field, " is ", Shown(value), "; ", needed, " is needed"));
}

absl::StatusOr<uint64_t> JsonRecord::Count(const char* field, uint64_t min, uint64_t max) const {
  const auto found = object_->find(field);
  if (found == object_->end()) return Error(absl::StrCat("there is no ", field));
  if (!IsCount(*found) || found->get<uint64_t>() < min || found->get<uint64_t>() > max)
    return NotAllowed(field, *found, absl::StrCat("a whole number from ", min, " to ", max));
  return found->get<uint64_t>();
}

absl::StatusOr<uint64_t> JsonRecord::CountOr(const char* field, uint64_t none, uint64_t max) const {
  if (!Has(field)) return none;
  return Count(field, 0, max);
}

absl::StatusOr<double> JsonRecord::Number(const char* field, double max) const {
  const auto found = object_->find(field);
  if (found == object_->end()) return Error(absl::StrCat("there is no ", field));
  const double number = found->is_number() ? found->get<double>() : -1;
  if (!(number >= 0 && number <= max))  // so that NaN is refused
    return NotAllowed(field, *found, absl::StrFormat("a number from 0 to %.0f", max));
  return number;
}

absl::StatusOr<std::string> JsonRecord::TextOrEmpty(const char* field, size_t bytes_max) const {
  const auto found = object_->find(field);
  if (found == object_->end()) return std::string();
  if (!found->is_string() || found->get_ref<const std::string&>().size() > bytes_max)
    return NotAllowed(field, *found, absl::StrCat("a text of at most ", bytes_max, " bytes"));
  return found->get<std::string>();
}

absl::StatusOr<const Json*> JsonRecord::List(const char* field) const {
  const auto found = object_->find(field);
  if (found == object_->end()) return Error(absl::StrCat("there is no ", field));
  if (!found->is_array()) return NotAllowed(field, *found, "a list");
  return &*found;
}

absl::StatusOr<uint32_t> JsonRecord::HashIds(uint64_t room, std::vector<uint64_t>& ids) const {
  auto list = List("hash_ids");
  if (!list.ok()) return list.status();
  const size_t count = (*list)->size();
  if (count > kBlocksPerRequestMax) {
    return Error(absl::StrCat("hash_ids has ", count, " ids; the limit is ", kBlocksPerRequestMax));
  }
  if (count > room) {
    return Error(absl::StrCat("with it the trace has more than ", kIdsMax,
                              " ids, which is the limit; --limit reads fewer requests"));
  }
  absl::flat_hash_set<uint64_t> seen;
  seen.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Json& id = (**list)[i];
    if (!IsCount(id)) {
      return NotAllowed(absl::StrCat("hash_ids[", i, "]").c_str(), id,
                        absl::StrCat("a whole number from 0 to ", ~uint64_t{0}));
    }
    const auto number = id.get<uint64_t>();
    if (!seen.insert(number).second) {
      return Error(absl::StrCat("hash_ids[", i, "] is ", number,
                                ", which stands before in the same prompt; an id names one "
                                "prefix"));
    }
    ids.push_back(number);
  }
  return static_cast<uint32_t>(count);
}

}  // namespace kvtier::sim
