// Plays one request of a trace against a daemon, as an inference worker would: look the prompt up,
// read what is there, "compute" and store the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cli/replay/play_message.h"
#include "kvtier/client.h"

namespace kvtier::replay {

struct PlayerOptions {
  uint32_t block_tokens = 512;
  uint64_t bytes_per_token = 128;
};

// One model, "kvtier.replay", of one plane; a chunk is a block of the trace, full or not. Memory is
// bounded: blocks go through a buffer of sim::kReplayBufferBytes (at least one chunk). Not
// thread-safe.
class RequestPlayer {
 public:
  // Registers the model; without a daemon it does so later. An error says that no request can ever
  // be played: the daemon refuses the model. `client` outlives this.
  static absl::StatusOr<std::unique_ptr<RequestPlayer>> Create(Client* client,
                                                               const PlayerOptions& options);

  // Never fails: what the daemon does not give is recomputed, and counted.
  PlayResult Play(const PlayRequest& request);

 private:
  class Leases;
  RequestPlayer(Client* client, const PlayerOptions& options);
  absl::Status Register();
  std::vector<Key> Keys(const PlayRequest& request) const;
  uint32_t ReadPrefix(absl::Span<const Key> keys, Leases& leases, PlayCounts& counts);
  uint32_t ReadLeased(LeaseHandle lease, absl::Span<const Key> keys, PlayCounts& counts);
  void StoreRest(absl::Span<const Key> keys, uint32_t first, PlayCounts& counts);
  absl::Status StoreBatch(absl::Span<const Key> keys, const Key& parent, PlayCounts& counts);

  Client* client_;
  const uint32_t block_tokens_;
  const uint64_t chunk_bytes_;
  const uint32_t batch_chunks_;
  std::vector<char> buffer_;
  Model model_;
  bool registered_ = false;
};

}  // namespace kvtier::replay
