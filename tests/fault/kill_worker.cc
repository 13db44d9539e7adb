// A worker made to be killed: stores chains of chunks and reads them, and stands still at each
// named point until it is told to go on. It says "ready" once it is attached, then takes lines
// "SEED CHUNKS TAIL_TOKENS [by_rank]" and answers each with the lines
//   reserved FIRST COUNT, half_stored, before_commit, after_commit EXISTING, leased CHUNKS, done
// waiting for a line after each but the last; or "refused", or "error: STATUS". EXISTING is how
// many of the chunks another worker had committed meanwhile. A chain that is stored already goes
// from "reserved FIRST 0" straight to "leased". With "by_rank" there is one more point,
// "committed_in_one_rank", at which the planes of rank 0 are committed and those of rank 1 are not.
// At the end of its input it ends.
//
// Unless it is told to use streams it writes and reads in place: at "half_stored" it is in the
// middle of a block, and after "leased" come "entered" (in a read section, nothing looked up),
// "inside_section" (half of the blocks are read) and "ring_full", where it reports faster than the
// daemon takes reports, without end.

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {
namespace {

// Whoever steers this process is gone.
struct InputEnded {};

void Stand(const std::string& point) {
  std::cout << point << std::endl;
  std::string line;
  if (!std::getline(std::cin, line)) throw InputEnded();
}

struct Task {
  uint64_t seed = 0;
  size_t chunks = 0;
  uint32_t tail_tokens = 0;
  bool by_rank = false;
};

std::vector<uint32_t> PlanesOf(const Model& model, int rank) {
  std::vector<uint32_t> planes;
  for (uint32_t plane = 0; plane < model.geometry().planes.size(); ++plane) {
    if (model.geometry().planes[plane].rank == rank) planes.push_back(plane);
  }
  return planes;
}

// The first half of a block, where it will stay. Without room in place there is nothing to write.
absl::Status WriteHalf(Client& client, ReservationHandle reservation, const ChainPart& part,
                       size_t block, size_t planes) {
  const auto chunk = static_cast<uint32_t>(block / planes);
  const auto plane = static_cast<uint32_t>(block % planes);
  const auto in_place = client.Buffers(reservation, chunk, {plane});
  if (absl::IsFailedPrecondition(in_place.status())) return absl::OkStatus();
  KVTIER_ASSIGN_OR_RETURN(const std::vector<MutableBuffer> buffers, in_place);
  const std::vector<std::byte> bytes =
      BlockBytes(part.keys[part.first + chunk], plane, buffers[0].bytes);
  std::memcpy(buffers[0].data, bytes.data(), bytes.size() / 2);
  return absl::OkStatus();
}

// Reports until it is told to go on: the ring is full most of the time.
absl::Status ReportWithoutEnd(Client& client, const Model& model, const Match& match) {
  std::vector<ReadReport> reports;
  for (uint32_t plane = 0; plane < model.geometry().planes.size(); ++plane)
    reports.push_back({.plane = plane, .steps = 1, .mass = std::vector<double>(match.chunks, 0.5)});
  std::cout << "ring_full" << std::endl;
  pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  while (poll(&input, 1, 0) == 0) KVTIER_RETURN_IF_ERROR(client.Report(match.lease, reports));
  std::string line;
  if (!std::getline(std::cin, line)) throw InputEnded();
  return absl::OkStatus();
}

absl::Status ReadInSection(Client& client, const Model& model, const Match& match,
                           const std::vector<Key>& keys) {
  {
    KVTIER_ASSIGN_OR_RETURN(ReadSection section, client.EnterSection());
    Stand("entered");
    KVTIER_RETURN_IF_ERROR(CompareInPlace(section, model, match.lease, keys, 0, match.chunks / 2));
    Stand("inside_section");
    KVTIER_RETURN_IF_ERROR(
        CompareInPlace(section, model, match.lease, keys, match.chunks / 2, match.chunks));
  }
  return ReportWithoutEnd(client, model, match);
}

absl::Status StoreAndRead(Client& client, const Model& model, const Task& task) {
  const std::vector<Key> keys = ChainKeys(model, task.seed, task.chunks, task.tail_tokens);
  const bool in_place = client.transport() == Transport::kSharedMemory;
  KVTIER_ASSIGN_OR_RETURN(const Match known,
                          client.Lookup({.model = model, .keys = keys, .lease = false}));
  const ChainPart part{.keys = keys,
                       .first = known.chunks,
                       .count = task.chunks - known.chunks,
                       .tail_tokens = task.tail_tokens};
  if (part.count > 0) {
    const auto reservation = ReserveChunks(client, model, part);
    // The pools are full of chunks in use, or the parent was evicted since: not stored this time.
    if (absl::IsResourceExhausted(reservation.status()) ||
        absl::IsFailedPrecondition(reservation.status())) {
      std::cout << "refused" << std::endl;
      return absl::OkStatus();
    }
    KVTIER_RETURN_IF_ERROR(reservation.status());
    Stand(absl::StrCat("reserved ", part.first, " ", part.count));
    const size_t planes = model.geometry().planes.size();
    const size_t blocks = part.count * planes;
    KVTIER_RETURN_IF_ERROR(PutBlocks(client, model, *reservation, part, 0, blocks / 2));
    if (in_place) KVTIER_RETURN_IF_ERROR(WriteHalf(client, *reservation, part, blocks / 2, planes));
    Stand("half_stored");
    KVTIER_RETURN_IF_ERROR(PutBlocks(client, model, *reservation, part, blocks / 2, blocks));
    Stand("before_commit");
    std::vector<uint32_t> rest;  // all planes
    if (task.by_rank) {
      rest = PlanesOf(model, 1);
      KVTIER_RETURN_IF_ERROR(
          CommitChunks(client, model, *reservation, part, part.count, PlanesOf(model, 0)).status());
      Stand("committed_in_one_rank");
    }
    KVTIER_ASSIGN_OR_RETURN(const std::vector<CommitResult> results,
                            CommitChunks(client, model, *reservation, part, part.count, rest));
    Stand(absl::StrCat("after_commit ",
                       std::count(results.begin(), results.end(), CommitResult::kAlreadyExists)));
  } else {
    Stand(absl::StrCat("reserved ", part.first, " 0"));
  }
  KVTIER_ASSIGN_OR_RETURN(const Match match, client.Lookup({.model = model, .keys = keys}));
  Stand(absl::StrCat("leased ", match.chunks));
  if (match.chunks > 0) {
    KVTIER_RETURN_IF_ERROR(in_place ? ReadInSection(client, model, match, keys)
                                    : ReadLease(client, model, match.lease, keys, match.chunks));
    KVTIER_RETURN_IF_ERROR(client.Release(match.lease));
  }
  std::cout << "done" << std::endl;
  return absl::OkStatus();
}

absl::Status Run(const std::string& socket, Transport transport) {
  ClientOptions options;
  options.socket = socket;
  options.name = "kill_worker";
  options.transport = transport;
  options.unavailable_after = absl::Seconds(10);
  KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  KVTIER_ASSIGN_OR_RETURN(const Model model, client->RegisterModel(RankedModel()));
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    Task task;
    if (!(words >> task.seed >> task.chunks >> task.tail_tokens))
      return absl::InvalidArgumentError(absl::StrCat("not a task: ", line));
    std::string word;
    task.by_rank = words >> word && word == "by_rank";
    const absl::Status done = StoreAndRead(*client, model, task);
    if (!done.ok()) std::cout << "error: " << done.ToString() << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace kvtier::test_support

int main(int argc, char** argv) {
  const std::string transport = argc == 3 ? argv[2] : "";
  if (transport != "stream" && transport != "shared_memory") {
    std::cerr << "usage: kill_worker SOCKET stream|shared_memory\n";
    return 2;
  }
  try {
    const absl::Status status = kvtier::test_support::Run(
        argv[1],
        transport == "stream" ? kvtier::Transport::kStream : kvtier::Transport::kSharedMemory);
    if (status.ok()) return 0;
    std::cout << "error: " << status.ToString() << std::endl;
    return 1;
  } catch (const kvtier::test_support::InputEnded&) {
    return 0;
  }
}
