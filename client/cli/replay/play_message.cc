#include "client/cli/replay/play_message.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "client/cli/interrupt.h"

namespace kvtier::replay {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kFrameBytesMax = 4096 + 8 * sim::kBlocksPerRequestMax;

struct RequestHead {
  uint64_t number;
  sim::TraceRequest request;
  uint64_t logical_time_us;
};
static_assert(std::is_trivially_copyable_v<RequestHead>);

void AddMap(std::map<std::string, uint64_t>& sum, const std::map<std::string, uint64_t>& more) {
  for (const auto& [name, number] : more) sum[name] += number;
}

// Calls `move(descriptor, bytes, count)`, which is read() or write(), until all is moved.
template <typename Byte, typename Move>
absl::Status MoveAll(int fd, Byte* bytes, size_t count, Move move) {
  while (count > 0) {
    const ssize_t moved = move(fd, bytes, count);
    if (moved < 0 && errno == EINTR) {
      if (absl::Status status = cli::CheckInterrupted(); !status.ok()) return status;
      continue;
    }
    if (moved <= 0) {
      return absl::UnavailableError(moved == 0 ? "the other end is gone" : std::strerror(errno));
    }
    bytes += moved;
    count -= static_cast<size_t>(moved);
  }
  return absl::OkStatus();
}

}  // namespace

void PlayCounts::Add(const PlayCounts& more) {
  requests += more.requests;
  chunks += more.chunks;
  hits += more.hits;
  verified += more.verified;
  corrupt += more.corrupt;
  damaged += more.damaged;
  stored += more.stored;
  already_stored += more.already_stored;
  refused += more.refused;
  recomputed += more.recomputed;
  read_in_place += more.read_in_place;
  read_by_stream += more.read_by_stream;
  AddMap(hits_by_tier, more.hits_by_tier);
  AddMap(bytes_by_link, more.bytes_by_link);
  AddMap(errors_by_code, more.errors_by_code);
  first_errors.insert(more.first_errors.begin(), more.first_errors.end());  // keeps what is there
}

std::string EncodeRequest(const PlayRequest& request) {
  const RequestHead head{request.number, request.request, request.logical_time_us};
  std::string frame(sizeof(head) + request.ids.size() * sizeof(uint64_t), '\0');
  std::memcpy(frame.data(), &head, sizeof(head));
  if (!request.ids.empty()) {
    std::memcpy(frame.data() + sizeof(head), request.ids.data(),
                request.ids.size() * sizeof(uint64_t));
  }
  return frame;
}

absl::StatusOr<PlayRequest> DecodeRequest(const std::string& frame) {
  RequestHead head;
  if (frame.size() < sizeof(head)) return absl::DataLossError("a request is cut short");
  std::memcpy(&head, frame.data(), sizeof(head));
  const size_t id_bytes = frame.size() - sizeof(head);
  if (id_bytes != uint64_t{head.request.block_count} * sizeof(uint64_t))
    return absl::DataLossError("a request has other ids than it says");
  PlayRequest request{head.number, head.request, {}, head.logical_time_us};
  request.ids.resize(head.request.block_count);
  if (id_bytes > 0) std::memcpy(request.ids.data(), frame.data() + sizeof(head), id_bytes);
  return request;
}

std::string EncodeResult(const PlayResult& result) {
  const PlayCounts& counts = result.counts;
  const Json json = {result.number,         result.latency_us,     counts.requests,
                     counts.chunks,         counts.hits,           counts.verified,
                     counts.corrupt,        counts.damaged,        counts.stored,
                     counts.already_stored, counts.refused,        counts.recomputed,
                     counts.read_in_place,  counts.read_by_stream, counts.hits_by_tier,
                     counts.bytes_by_link,  counts.errors_by_code, counts.first_errors};
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

absl::StatusOr<PlayResult> DecodeResult(const std::string& frame) {
  PlayResult result;
  PlayCounts& counts = result.counts;
  try {
    const Json json = Json::parse(frame);
    size_t i = 0;
    for (uint64_t* number : {&result.number, &result.latency_us, &counts.requests, &counts.chunks,
                             &counts.hits, &counts.verified, &counts.corrupt, &counts.damaged,
                             &counts.stored, &counts.already_stored, &counts.refused,
                             &counts.recomputed, &counts.read_in_place, &counts.read_by_stream}) {
      json.at(i++).get_to(*number);
    }
    json.at(i++).get_to(counts.hits_by_tier);
    json.at(i++).get_to(counts.bytes_by_link);
    json.at(i++).get_to(counts.errors_by_code);
    json.at(i++).get_to(counts.first_errors);
  } catch (const Json::exception& error) {
    return absl::DataLossError(error.what());
  }
  return result;
}

absl::Status WriteFrame(int fd, const std::string& frame) {
  const uint64_t size = frame.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  bytes += frame;
  return MoveAll(fd, bytes.data(), bytes.size(), ::write);
}

absl::StatusOr<std::string> ReadFrame(int fd) {
  uint64_t size = 0;
  absl::Status status = MoveAll(fd, reinterpret_cast<char*>(&size), sizeof(size), ::read);
  if (!status.ok()) return status;
  if (size > kFrameBytesMax) return absl::DataLossError("a frame is longer than any can be");
  std::string frame(size, '\0');
  status = MoveAll(fd, frame.data(), frame.size(), ::read);
  if (!status.ok()) return status;
  return frame;
}

}  // namespace kvtier::replay
