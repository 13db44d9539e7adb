// What `kvtier replay` and its workers say to each other, over pipes: frames of a length and bytes.
//
// Both ends are the same program. A frame that is cut short means that the other end is gone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/trace.h"

namespace kvtier::replay {

// One request to play.
struct PlayRequest {
  uint64_t number = 0;
  sim::TraceRequest request{};
  std::vector<uint64_t> ids{};
  uint64_t logical_time_us = 0;  // of the trace; 0: none is told to the daemon
};

// What became of it, or (added up) of many.
struct PlayCounts {
  uint64_t requests = 0;
  uint64_t chunks = 0;          // of their prompts
  uint64_t hits = 0;            // of them, read from the daemon
  uint64_t verified = 0;        // blocks whose bytes were compared and right
  uint64_t corrupt = 0;         // compared and wrong
  uint64_t damaged = 0;         // that the daemon found damaged and did not serve
  uint64_t stored = 0;          // chunks committed
  uint64_t already_stored = 0;  // by somebody else, meanwhile
  uint64_t refused = 0;         // chunks for which there was no room: they stay private
  uint64_t recomputed = 0;      // requests of which no lookup was answered
  uint64_t read_in_place = 0;   // blocks that came from shared memory
  uint64_t read_by_stream = 0;
  std::map<std::string, uint64_t> hits_by_tier{};
  std::map<std::string, uint64_t> bytes_by_link{};
  std::map<std::string, uint64_t> errors_by_code{};   // of calls
  std::map<std::string, std::string> first_errors{};  // what the first of each code said

  void Add(const PlayCounts& more);
};

struct PlayResult {
  uint64_t number = 0;
  uint64_t latency_us = 0;
  PlayCounts counts{};
};

std::string EncodeRequest(const PlayRequest& request);
// DATA_LOSS: not what EncodeRequest makes.
absl::StatusOr<PlayRequest> DecodeRequest(const std::string& frame);
std::string EncodeResult(const PlayResult& result);
absl::StatusOr<PlayResult> DecodeResult(const std::string& frame);

// Blocking. Interrupted by a signal that the program catches: CANCELLED. UNAVAILABLE: the other end
// is gone.
absl::Status WriteFrame(int fd, const std::string& frame);
absl::StatusOr<std::string> ReadFrame(int fd);

}  // namespace kvtier::replay
