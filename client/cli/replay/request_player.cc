#include "client/cli/replay/request_player.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/replay/block_pattern.h"
#include "sim/replay_order.h"

namespace kvtier::replay {
namespace {

// Without a daemon a request takes this long, in place of its prefill: else the rest of a trace
// would be over before the daemon is back.
constexpr absl::Duration kRecomputeTime = absl::Milliseconds(100);

bool CountError(const absl::Status& status, PlayCounts& counts) {
  if (status.ok()) return false;
  const std::string code = absl::StatusCodeToString(status.code());
  ++counts.errors_by_code[code];
  counts.first_errors.try_emplace(code, status.message());
  return true;
}

}  // namespace

// The leases of one request, until its end: they keep the prefix while the rest is stored behind
// it.
class RequestPlayer::Leases {
 public:
  explicit Leases(Client* client) : client_(client) {}
  ~Leases() {
    for (const LeaseHandle lease : leases_) (void)client_->Release(lease);
  }
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;
  void Add(LeaseHandle lease) {
    if (lease != 0) leases_.push_back(lease);
  }

 private:
  Client* client_;
  std::vector<LeaseHandle> leases_;
};

RequestPlayer::RequestPlayer(Client* client, const PlayerOptions& options)
    : client_(client),
      block_tokens_(options.block_tokens),
      chunk_bytes_(options.block_tokens * options.bytes_per_token),
      batch_chunks_(sim::ReplayBatchChunks(chunk_bytes_)),
      buffer_(batch_chunks_ * chunk_bytes_) {}

absl::StatusOr<std::unique_ptr<RequestPlayer>> RequestPlayer::Create(Client* client,
                                                                     const PlayerOptions& options) {
  std::unique_ptr<RequestPlayer> player(new RequestPlayer(client, options));
  absl::Status status = player->Register();
  if (!status.ok() && !absl::IsUnavailable(status)) return status;
  return player;
}

absl::Status RequestPlayer::Register() {
  ModelGeometry geometry{.name = "kvtier.replay", .revision = "1", .data_type = "pattern"};
  geometry.chunk_tokens = block_tokens_;
  geometry.planes = {{.name = "kv", .bytes_per_chunk = chunk_bytes_}};
  auto model = client_->RegisterModel(geometry);
  if (!model.ok()) return model.status();
  model_ = *std::move(model);
  registered_ = true;
  return absl::OkStatus();
}

std::vector<Key> RequestPlayer::Keys(const PlayRequest& request) const {
  std::vector<Key> keys;
  keys.reserve(request.ids.size());
  Key parent{};
  for (uint32_t i = 0; i < request.ids.size(); ++i) {
    const sim::BlockName name = sim::NameOf(request.request, i, request.ids[i]);
    char text[sizeof(name)];
    std::memcpy(text, &name, sizeof(name));
    parent = model_.OpaqueKey(parent, {text, sizeof(text)});
    keys.push_back(parent);
  }
  return keys;
}

PlayResult RequestPlayer::Play(const PlayRequest& request) {
  PlayResult result{.number = request.number};
  result.counts.requests = 1;
  result.counts.chunks = request.ids.size();
  if (!client_->attached()) (void)client_->WaitAttached(kRecomputeTime);
  client_->SetLogicalTime(absl::Microseconds(static_cast<int64_t>(request.logical_time_us)));
  const absl::Time start = absl::Now();
  if (!registered_) CountError(Register(), result.counts);
  if (registered_) {
    const std::vector<Key> keys = Keys(request);
    Leases leases(client_);
    const uint32_t read = ReadPrefix(keys, leases, result.counts);
    result.counts.hits = read;
    if (result.counts.recomputed == 0) StoreRest(keys, read, result.counts);
  } else {
    result.counts.recomputed = 1;
  }
  result.latency_us =
      static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Microseconds(absl::Now() - start)));
  return result;
}

// How many chunks of the prefix were found and read.
uint32_t RequestPlayer::ReadPrefix(absl::Span<const Key> keys, Leases& leases, PlayCounts& counts) {
  uint32_t read = 0;
  while (read < keys.size()) {
    const auto asked = keys.subspan(read, sim::kReplayLookupChunks);
    auto match = client_->Lookup({.model = model_, .keys = {asked.begin(), asked.end()}});
    if (CountError(match.status(), counts)) {
      if (read == 0) counts.recomputed = 1;
      return read;
    }
    leases.Add(match->lease);
    const uint32_t matched = std::min<uint32_t>(match->chunks, static_cast<uint32_t>(asked.size()));
    if (matched == 0) return read;
    const uint32_t usable = ReadLeased(match->lease, asked.subspan(0, matched), counts);
    read += usable;
    if (usable > 0) {
      // One step of attention that spread over all of them.
      const ReadReport report{
          .plane = 0, .steps = 1, .mass = std::vector<double>(matched, 1.0 / matched)};
      CountError(client_->Report(match->lease, {report}), counts);
    }
    if (usable < asked.size()) return read;
  }
  return read;
}

// How many chunks, from the first on, came and have the right bytes: what is behind another one is
// of no use.
uint32_t RequestPlayer::ReadLeased(LeaseHandle lease, absl::Span<const Key> keys,
                                   PlayCounts& counts) {
  for (uint32_t first = 0; first < keys.size(); first += batch_chunks_) {
    const auto batch = keys.subspan(first, batch_chunks_);
    GetRequest get{.model = model_, .lease = lease};
    for (uint32_t i = 0; i < batch.size(); ++i) {
      get.blocks.push_back(
          {.chunk = first + i, .pieces = {{buffer_.data() + i * chunk_bytes_, chunk_bytes_}}});
    }
    const auto got = client_->Get(std::move(get));
    if (CountError(got.status(), counts)) return first;
    const auto came = std::count_if(got->blocks.begin(), got->blocks.end(),
                                    [](const BlockResult& block) { return block.status.ok(); });
    counts.read_in_place += got->blocks_in_place;
    counts.read_by_stream += static_cast<uint64_t>(came) - got->blocks_in_place;
    for (uint32_t i = 0; i < batch.size(); ++i) {
      const BlockResult& block = got->blocks[i];
      if (absl::IsDataLoss(block.status)) ++counts.damaged;
      if (CountError(block.status, counts)) return first + i;
      const absl::Span<const char> bytes(buffer_.data() + i * chunk_bytes_, chunk_bytes_);
      if (!BlockPattern(batch[i]).Matches(bytes)) {
        ++counts.corrupt;
        return first + i;
      }
      ++counts.verified;
      ++counts.hits_by_tier[block.pool];
      counts.bytes_by_link[block.pool + "->client"] += chunk_bytes_;
    }
  }
  return static_cast<uint32_t>(keys.size());
}

void RequestPlayer::StoreRest(absl::Span<const Key> keys, uint32_t first, PlayCounts& counts) {
  while (first < keys.size()) {
    const auto batch = keys.subspan(first, batch_chunks_);
    const Key parent = first == 0 ? Key{} : keys[first - 1];
    const absl::Status status = StoreBatch(batch, parent, counts);
    if (CountError(status, counts)) {
      // What is behind them cannot be stored either. Where the chunk before them was dropped after
      // it was stored or read there is no room for the prompt as a whole.
      if (absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status))
        counts.refused += keys.size() - first;
      return;
    }
    first += static_cast<uint32_t>(batch.size());
  }
}

absl::Status RequestPlayer::StoreBatch(absl::Span<const Key> keys, const Key& parent,
                                       PlayCounts& counts) {
  const auto count = static_cast<uint32_t>(keys.size());
  auto reservation = client_->Reserve({.model = model_, .parent = parent, .chunk_count = count});
  if (!reservation.ok()) return reservation.status();
  PutRequest put{.model = model_, .reservation = *reservation};
  CommitRequest commit{.model = model_, .reservation = *reservation};
  for (uint32_t i = 0; i < count; ++i) {
    char* bytes = buffer_.data() + i * chunk_bytes_;
    BlockPattern(keys[i]).Fill({bytes, chunk_bytes_});
    put.blocks.push_back({.chunk = i, .pieces = {{bytes, chunk_bytes_}}});
    commit.chunks.push_back({.chunk = i, .key = keys[i], .token_count = block_tokens_});
  }
  absl::Status status = client_->Put(std::move(put));
  if (!status.ok()) {
    (void)client_->Abort(*reservation);
    return status;
  }
  counts.bytes_by_link["client->daemon"] += count * chunk_bytes_;
  const auto committed = client_->Commit(std::move(commit));
  if (!committed.ok()) {
    (void)client_->Abort(*reservation);
    return committed.status();
  }
  for (const CommitResult result : *committed)
    ++(result == CommitResult::kAlreadyExists ? counts.already_stored : counts.stored);
  return absl::OkStatus();
}

}  // namespace kvtier::replay
