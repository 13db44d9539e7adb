// JSON of a trace, read with errors that say where and what the limit is.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvtier::sim {

using Json = nlohmann::json;

// INVALID_ARGUMENT "PLACE: ..." for anything but one JSON value of nesting `depth_max` at most
// in which no object has a name twice; never throws.
absl::StatusOr<Json> ParseJson(std::string_view text, const std::string& place, int depth_max);

// One object of a trace. Errors are INVALID_ARGUMENT "PLACE: FIELD is VALUE; ... is needed". The
// object outlives this.
class JsonRecord {
 public:
  // `value` must be an object.
  static absl::StatusOr<JsonRecord> Of(const Json& value, std::string place);

  const std::string& place() const { return place_; }
  bool Has(const char* field) const { return object_->contains(field); }
  // A whole number within [min, max].
  absl::StatusOr<uint64_t> Count(const char* field, uint64_t min, uint64_t max) const;
  absl::StatusOr<uint64_t> CountOr(const char* field, uint64_t none, uint64_t max) const;
  // A number within [0, max].
  absl::StatusOr<double> Number(const char* field, double max) const;
  // Text of at most `bytes_max`; empty where there is no such field.
  absl::StatusOr<std::string> TextOrEmpty(const char* field, size_t bytes_max) const;
  // A list.
  absl::StatusOr<const Json*> List(const char* field) const;
  // Appends the numbers of list "hash_ids": at most `room`, all of them different. Returns how
  // many.
  absl::StatusOr<uint32_t> HashIds(uint64_t room, std::vector<uint64_t>& ids) const;

  absl::Status Error(std::string_view problem) const;

 private:
  JsonRecord(const Json* object, std::string place) : object_(object), place_(std::move(place)) {}
  absl::Status NotAllowed(const char* field, const Json& value, const std::string& needed) const;

  const Json* object_;
  std::string place_;
};

}  // namespace kvtier::sim
