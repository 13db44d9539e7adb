#pragma once

// One prompt after another through the model and a KvStore: what an inference worker does with
// kvtier.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "client/examples/chunk_writer.h"
#include "client/examples/kv_store.h"
#include "client/examples/pause_points.h"
#include "client/examples/transformer.h"

namespace kvtier::examples {

// What one prompt came to.
struct PromptResult {
  size_t prompt_tokens = 0;
  size_t chunks_total = 0;       // of the prompt, a partial last one included
  size_t chunks_reused = 0;      // of those, taken from the store instead of computed
  size_t recomputed_chunks = 0;  // in the store, but not readable, at once or later: computed again
  size_t data_loss = 0;          // blocks whose bytes did not match their checksum
  size_t stored_chunks = 0;      // committed by this prompt, prompt and answer
  size_t existing_chunks = 0;    // another worker had committed them meanwhile
  size_t private_chunks = 0;     // kept to the worker because the store refused
  std::string private_reason;    // the code that the last refusal had
  size_t reports = 0;            // accepted by the store
  size_t written_in_place = 0;   // stored chunks that were computed in the store's memory
  KvTable::Counts in_place;      // what was read in place, and how often it moved
  std::map<std::string, uint64_t> fetched_bytes_by_pool;  // of the reused chunks
  std::map<std::string, size_t> store_errors;             // calls that failed, by code
  std::string last_error;
  std::vector<uint8_t> generated;
  std::vector<uint8_t>
      first_k_block_head;      // first bytes of layer 0's K of chunk 0, to find the block by
  double fetch_seconds = 0;    // lookup and fetch
  double prefill_seconds = 0;  // computing and storing what was not fetched
  double decode_seconds = 0;

  size_t distinct_bytes() const;
};

// Not thread-safe. Weights, store and pauses must outlive it.
class PromptRunner {
 public:
  struct Options {
    size_t tokens_max = 96;    // generated
    size_t report_every = 16;  // decode steps between reports; 0: none
    bool reuse = true;         // false: compute everything, whatever the store has
  };

  PromptRunner(const Weights& weights, const KvGeometry& geometry, KvStore& store,
               PausePoints& pauses, const Options& options);

  // `prompt` has at least one byte and, with the answer, fits the model's positions. Never fails:
  // whatever the store refuses is computed.
  PromptResult Run(std::string_view prompt);

 private:
  struct Sequence;

  void FetchPrefix(Sequence& sequence);
  bool FetchChunks(Sequence& sequence, size_t lookup_tokens);
  void FollowOrKeep(Sequence& sequence);
  // Appends the KV of the next `count` tokens.
  void Compute(Sequence& sequence, ChunkWriter& writer, size_t count, std::span<float> logits);
  // Within a step: computes again what was lost.
  void Restore(Sequence& sequence);
  static void NoteLosses(Sequence& sequence);
  void Prefill(Sequence& sequence, ChunkWriter& writer, std::span<float> logits);
  void Decode(Sequence& sequence, ChunkWriter& writer, std::span<float> logits);
  AttentionMass* MassSink(Sequence& sequence) const;
  void Report(Sequence& sequence, size_t steps);
  void DropLease(Sequence& sequence);
  static void CountError(Sequence& sequence, const absl::Status& status);

  const KvGeometry geometry_;
  KvStore& store_;
  PausePoints& pauses_;
  const Options options_;
  Transformer transformer_;
};

}  // namespace kvtier::examples
