// A worker made to be killed: stores chains of chunks and reads them, and stands still at each
// named point until it is told to go on. It says "ready" once it is attached, then takes lines
// "SEED CHUNKS TAIL_TOKENS" and answers each with the lines
//   reserved FIRST COUNT, half_stored, before_commit, after_commit EXISTING, leased CHUNKS, done
// waiting for a line after each but the last; or "refused", or "error: STATUS". EXISTING is how
// many of the chunks another worker had committed meanwhile. A chain that is stored already goes
// from "reserved FIRST 0" straight to "leased". At the end of its input it ends.

#include <algorithm>
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

absl::Status StoreAndRead(Client& client, const Model& model, uint64_t seed, size_t chunks,
                          uint32_t tail_tokens) {
  const std::vector<Key> keys = ChainKeys(model, seed, chunks, tail_tokens);
  KVTIER_ASSIGN_OR_RETURN(const Match known,
                          client.Lookup({.model = model, .keys = keys, .lease = false}));
  const ChainPart part{.keys = keys,
                       .first = known.chunks,
                       .count = chunks - known.chunks,
                       .tail_tokens = tail_tokens};
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
    const size_t blocks = part.count * model.geometry().planes.size();
    KVTIER_RETURN_IF_ERROR(PutBlocks(client, model, *reservation, part, 0, blocks / 2));
    Stand("half_stored");
    KVTIER_RETURN_IF_ERROR(PutBlocks(client, model, *reservation, part, blocks / 2, blocks));
    Stand("before_commit");
    KVTIER_ASSIGN_OR_RETURN(const std::vector<CommitResult> results,
                            CommitChunks(client, model, *reservation, part, part.count));
    Stand(absl::StrCat("after_commit ",
                       std::count(results.begin(), results.end(), CommitResult::kAlreadyExists)));
  } else {
    Stand(absl::StrCat("reserved ", part.first, " 0"));
  }
  KVTIER_ASSIGN_OR_RETURN(const Match match, client.Lookup({.model = model, .keys = keys}));
  Stand(absl::StrCat("leased ", match.chunks));
  if (match.chunks > 0) {
    KVTIER_RETURN_IF_ERROR(ReadLease(client, model, match.lease, keys, match.chunks));
    KVTIER_RETURN_IF_ERROR(client.Release(match.lease));
  }
  std::cout << "done" << std::endl;
  return absl::OkStatus();
}

absl::Status Run(const std::string& socket) {
  ClientOptions options;
  options.socket = socket;
  options.name = "kill_worker";
  options.unavailable_after = absl::Seconds(10);
  KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  KVTIER_ASSIGN_OR_RETURN(const Model model, client->RegisterModel(UnequalModel()));
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    uint64_t seed = 0;
    size_t chunks = 0;
    uint32_t tail_tokens = 0;
    if (!(words >> seed >> chunks >> tail_tokens))
      return absl::InvalidArgumentError(absl::StrCat("not a task: ", line));
    const absl::Status done = StoreAndRead(*client, model, seed, chunks, tail_tokens);
    if (!done.ok()) std::cout << "error: " << done.ToString() << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace kvtier::test_support

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: kill_worker SOCKET\n";
    return 2;
  }
  try {
    const absl::Status status = kvtier::test_support::Run(argv[1]);
    if (status.ok()) return 0;
    std::cout << "error: " << status.ToString() << std::endl;
    return 1;
  } catch (const kvtier::test_support::InputEnded&) {
    return 0;
  }
}
