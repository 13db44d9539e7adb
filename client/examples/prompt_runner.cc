#include "client/examples/prompt_runner.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"

namespace kvtier::examples {
namespace {

// Chunks of prefill between two rounds of storing: other workers see a long prompt's start before
// its end is computed, and a round of calls is shared by several chunks.
constexpr size_t kPrefillChunks = 8;

constexpr size_t kBlockHeadBytes = 32;

class Stopwatch {
 public:
  // Seconds since construction or the last call.
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace

struct PromptRunner::Sequence {
  explicit Sequence(const KvGeometry& geometry) : kv(geometry) {}

  std::vector<uint32_t> tokens;  // the prompt, then what was generated
  KvTable kv;
  std::vector<ChunkKey> reused_keys;  // of full chunks in kv that the store has
  KvStore::Lease lease;
  AttentionMass mass;
  PromptResult result;
};

size_t PromptResult::distinct_bytes() const {
  return std::set<uint8_t>(generated.begin(), generated.end()).size();
}

PromptRunner::PromptRunner(const Weights& weights, const KvGeometry& geometry, KvStore& store,
                           PausePoints& pauses, const Options& options)
    : geometry_(geometry),
      store_(store),
      pauses_(pauses),
      options_(options),
      transformer_(weights, geometry) {}

PromptResult PromptRunner::Run(std::string_view prompt) {
  KVTIER_CHECK(!prompt.empty());
  Sequence sequence(geometry_);
  for (const char byte : prompt) sequence.tokens.push_back(static_cast<uint8_t>(byte));
  PromptResult& result = sequence.result;
  result.prompt_tokens = prompt.size();
  result.chunks_total = (prompt.size() + geometry_.chunk_tokens - 1) / geometry_.chunk_tokens;

  Stopwatch stopwatch;
  if (options_.reuse) FetchPrefix(sequence);
  result.fetch_seconds = stopwatch.Lap();
  ChunkWriter writer(store_, pauses_, sequence.lease, sequence.reused_keys);
  std::vector<float> logits(ModelConfig::kVocabulary);
  Prefill(sequence, writer, logits);
  result.prefill_seconds = stopwatch.Lap();
  Decode(sequence, writer, logits);
  writer.StoreAll(sequence.tokens, sequence.kv);
  DropLease(sequence);
  result.decode_seconds = stopwatch.Lap();

  const ChunkWriter::Counts& counts = writer.counts();
  result.stored_chunks = counts.committed;
  result.existing_chunks = counts.existing;
  result.written_in_place = counts.in_place;
  result.in_place = sequence.kv.counts();
  result.private_chunks = sequence.kv.chunks() - std::min(sequence.kv.chunks(), writer.stored());
  if (result.private_chunks > 0) result.private_reason = counts.last_error_code;
  if (counts.refused > 0) {
    result.store_errors[counts.last_error_code] += counts.refused;
    result.last_error = counts.last_error;
  }
  return std::move(result);
}

// Takes what the store has of the prompt. Its last token is always computed: the first answer needs
// its logits.
void PromptRunner::FetchPrefix(Sequence& sequence) {
  const size_t lookup_tokens = sequence.tokens.size() - 1;
  std::vector<ChunkKey> keys;
  for (size_t begin = 0; begin < lookup_tokens; begin += geometry_.chunk_tokens) {
    const size_t size = std::min(geometry_.chunk_tokens, lookup_tokens - begin);
    const absl::StatusOr<ChunkKey> key = store_.Key(
        keys.empty() ? ChunkKey{} : keys.back(), std::span(sequence.tokens).subspan(begin, size));
    if (!key.ok()) return CountError(sequence, key.status());
    keys.push_back(*key);
  }
  if (keys.empty()) return;
  absl::StatusOr<KvStore::Lease> lease = store_.Acquire(keys);
  if (!lease.ok()) return CountError(sequence, lease.status());
  if (lease->chunks == 0) return;
  sequence.lease = *lease;
  pauses_.Reach(PausePoint::kLeased);

  const KvStep step(store_, sequence.kv);
  const bool complete = FetchChunks(sequence, lookup_tokens);
  const size_t full = sequence.kv.tokens() / geometry_.chunk_tokens;
  keys.resize(full);
  if (!complete) {
    // The old lease names a chunk that cannot be read. A lease on what was read lets the store
    // forget the rest, and take it again once it is recomputed.
    DropLease(sequence);
    if (full > 0) lease = store_.Acquire(keys);
    if (!lease.ok()) {
      CountError(sequence, lease.status());
    } else if (full > 0) {
      sequence.lease = *lease;
      keys.resize(std::min(full, lease->chunks));
    }
    FollowOrKeep(sequence);
  }
  sequence.reused_keys = std::move(keys);
}

// Makes the leased chunks readable up to the first that has an unreadable block. True if all are.
bool PromptRunner::FetchChunks(Sequence& sequence, size_t lookup_tokens) {
  PromptResult& result = sequence.result;
  const size_t found_chunks = sequence.lease.chunks;
  absl::StatusOr<FetchResult> fetched = store_.Fetch(sequence.lease, sequence.kv);
  if (fetched.ok() && fetched->blocks.size() != found_chunks * geometry_.planes()) {
    fetched = absl::InternalError(
        absl::StrCat("fetch: ", fetched->blocks.size(), " results for ", found_chunks, " chunks"));
  }
  size_t readable = 0;
  if (fetched.ok()) {
    result.fetched_bytes_by_pool = fetched->bytes_by_pool;
    readable = found_chunks;
    for (size_t i = fetched->blocks.size(); i-- > 0;) {
      const absl::Status& status = fetched->blocks[i];
      if (status.ok()) continue;
      readable = i / geometry_.planes();
      if (absl::IsDataLoss(status)) ++result.data_loss;
      CountError(sequence, status);
    }
  } else {
    CountError(sequence, fetched.status());
  }
  sequence.kv.TakeLosses();  // counted above
  result.chunks_reused = readable;
  result.recomputed_chunks = found_chunks - readable;
  sequence.kv.Truncate(std::min(readable * geometry_.chunk_tokens, lookup_tokens));
  return readable == found_chunks;
}

// Chunks that are read in place are followed under the lease that there is now; what it does not
// cover is copied.
void PromptRunner::FollowOrKeep(Sequence& sequence) {
  KvTable& kv = sequence.kv;
  size_t followed = 0;
  if (store_.in_place() && sequence.lease.chunks > 0) {
    const absl::StatusOr<FetchResult> fetched = store_.Fetch(sequence.lease, kv);
    if (fetched.ok()) followed = sequence.lease.chunks;
  }
  for (size_t c = followed; c < kv.chunks(); ++c) {
    if (kv.memory(c) == ChunkMemory::kViewed) kv.Keep(c);
  }
}

void PromptRunner::NoteLosses(Sequence& sequence) {
  for (const absl::Status& loss : sequence.kv.TakeLosses()) {
    if (absl::IsDataLoss(loss)) ++sequence.result.data_loss;
    CountError(sequence, loss);
  }
}

// The KV of a token follows from the tokens before it: what comes after a lost chunk stays as it
// is.
void PromptRunner::Restore(Sequence& sequence) {
  KvTable& kv = sequence.kv;
  NoteLosses(sequence);
  const size_t tokens = kv.tokens();
  for (size_t c = 0; c < kv.chunks(); ++c) {
    if (kv.memory(c) != ChunkMemory::kLost) continue;
    kv.Renew(c);
    const size_t first = c * geometry_.chunk_tokens;
    if (first >= tokens) continue;
    kv.SetTokens(first);
    const size_t count = std::min(geometry_.chunk_tokens, tokens - first);
    transformer_.Forward(std::span(sequence.tokens).subspan(first, count), kv, {}, nullptr);
    kv.SetTokens(tokens);
    ++sequence.result.recomputed_chunks;
  }
}

void PromptRunner::Compute(Sequence& sequence, ChunkWriter& writer, size_t count,
                           std::span<float> logits) {
  KvTable& kv = sequence.kv;
  writer.Prepare(kv, count);
  const KvStep step(store_, kv);
  Restore(sequence);
  std::span<const uint32_t> tokens = std::span(sequence.tokens).subspan(kv.tokens(), count);
  const size_t chunk = kv.tokens() / geometry_.chunk_tokens;
  if (pauses_.Watches(PausePoint::kReservedHalfWritten) && count > 1 && chunk < kv.chunks() &&
      kv.memory(chunk) == ChunkMemory::kPlaced) {
    transformer_.Forward(tokens.first(count / 2), kv, {}, MassSink(sequence));
    pauses_.Reach(PausePoint::kReservedHalfWritten);
    tokens = tokens.subspan(count / 2);
  }
  transformer_.Forward(tokens, kv, logits, MassSink(sequence));
  kv.NoteRead();
  std::vector<uint8_t>& head = sequence.result.first_k_block_head;
  if (!head.empty()) return;
  for (const std::byte byte :
       kv.plane(0, 0).first(std::min(kBlockHeadBytes, geometry_.plane_bytes())))
    head.push_back(std::to_integer<uint8_t>(byte));
}

void PromptRunner::Prefill(Sequence& sequence, ChunkWriter& writer, std::span<float> logits) {
  const size_t step = kPrefillChunks * geometry_.chunk_tokens;
  const std::span<const uint32_t> tokens(sequence.tokens);
  while (sequence.kv.tokens() < tokens.size()) {
    const size_t done = sequence.kv.tokens();
    // Up to the next multiple of a step, so that every round but the last ends with a full chunk.
    const size_t count = std::min(step - done % step, tokens.size() - done);
    const bool last = done + count == tokens.size();
    Compute(sequence, writer, count, last ? logits : std::span<float>());
    writer.StoreFull(tokens, sequence.kv);
  }
  Report(sequence, 1);
}

void PromptRunner::Decode(Sequence& sequence, ChunkWriter& writer, std::span<float> logits) {
  size_t steps = 0;
  for (size_t i = 0; i < options_.tokens_max; ++i) {
    const uint32_t next = static_cast<uint32_t>(ArgMax(logits));
    sequence.result.generated.push_back(static_cast<uint8_t>(next));
    sequence.tokens.push_back(next);
    if (i + 1 == options_.tokens_max) break;  // nobody asks for what comes after the last one
    Compute(sequence, writer, 1, logits);
    writer.StoreFull(sequence.tokens, sequence.kv);
    if (options_.report_every > 0 && ++steps == options_.report_every)
      Report(sequence, std::exchange(steps, 0));
  }
  if (steps > 0) Report(sequence, steps);
}

// Null while nobody would hear of it.
AttentionMass* PromptRunner::MassSink(Sequence& sequence) const {
  return options_.report_every > 0 && sequence.lease.id != 0 ? &sequence.mass : nullptr;
}

void PromptRunner::Report(Sequence& sequence, size_t steps) {
  if (sequence.lease.id != 0 && sequence.mass.queries > 0) {
    sequence.mass.Grow(geometry_.layers, sequence.lease.chunks);
    const absl::Status status = store_.Report(sequence.lease, sequence.mass, steps);
    if (status.ok()) {
      ++sequence.result.reports;
    } else {
      CountError(sequence, status);
      // A lease that ran out or died with its daemon will not come back.
      sequence.lease = {};
    }
  }
  sequence.mass = {};
}

void PromptRunner::DropLease(Sequence& sequence) {
  if (sequence.lease.id == 0) return;
  const absl::Status status = store_.Release(sequence.lease.id);
  if (!status.ok()) CountError(sequence, status);
  sequence.lease = {};
}

void PromptRunner::CountError(Sequence& sequence, const absl::Status& status) {
  ++sequence.result.store_errors[absl::StatusCodeToString(status.code())];
  sequence.result.last_error = std::string(status.message());
}

}  // namespace kvtier::examples
