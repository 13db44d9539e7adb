#include "client/examples/run_report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kvtier::examples {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string Hex(const std::vector<uint8_t>& bytes) {
  return absl::BytesToHexString(std::string(bytes.begin(), bytes.end()));
}

double Milliseconds(double seconds) { return seconds * 1e3; }

OrderedJson TotalsJson(const std::vector<NamedResult>& results) {
  PromptResult sum;
  size_t generated = 0;
  size_t distinct_min = results.empty() ? 0 : results.front().result.distinct_bytes();
  for (const NamedResult& named : results) {
    const PromptResult& result = named.result;
    sum.prompt_tokens += result.prompt_tokens;
    sum.chunks_total += result.chunks_total;
    sum.chunks_reused += result.chunks_reused;
    sum.recomputed_chunks += result.recomputed_chunks;
    sum.data_loss += result.data_loss;
    sum.stored_chunks += result.stored_chunks;
    sum.existing_chunks += result.existing_chunks;
    sum.private_chunks += result.private_chunks;
    sum.written_in_place += result.written_in_place;
    sum.in_place.bytes_fetched += result.in_place.bytes_fetched;
    sum.in_place.bytes_copied += result.in_place.bytes_copied;
    sum.in_place.blocks_viewed += result.in_place.blocks_viewed;
    sum.in_place.moves += result.in_place.moves;
    sum.in_place.moved_between_reads += result.in_place.moved_between_reads;
    sum.reports += result.reports;
    for (const auto& [pool, bytes] : result.fetched_bytes_by_pool)
      sum.fetched_bytes_by_pool[pool] += bytes;
    for (const auto& [code, count] : result.store_errors) sum.store_errors[code] += count;
    generated += result.generated.size();
    distinct_min = std::min(distinct_min, result.distinct_bytes());
  }
  return OrderedJson{
      {"prompts", results.size()},
      {"prompt_tokens", sum.prompt_tokens},
      {"generated_tokens", generated},
      {"chunks_total", sum.chunks_total},
      {"chunks_reused", sum.chunks_reused},
      {"recomputed_chunks", sum.recomputed_chunks},
      {"data_loss", sum.data_loss},
      {"stored_chunks", sum.stored_chunks},
      {"existing_chunks", sum.existing_chunks},
      {"private_chunks", sum.private_chunks},
      {"chunks_written_in_place", sum.written_in_place},
      {"blocks_read_in_place", sum.in_place.blocks_viewed},
      {"prefix_bytes_copied", sum.in_place.bytes_fetched},
      {"other_bytes_copied", sum.in_place.bytes_copied},
      {"moves_followed", sum.in_place.moves},
      {"moved_between_reads", sum.in_place.moved_between_reads},
      {"reports", sum.reports},
      {"fetched_bytes_by_pool", sum.fetched_bytes_by_pool},
      {"store_errors", sum.store_errors},
      {"distinct_bytes_min", distinct_min},
  };
}

}  // namespace

OrderedJson PromptJson(const NamedResult& named) {
  const PromptResult& result = named.result;
  return OrderedJson{
      {"prompt", named.prompt},
      {"round", named.round},
      {"prompt_tokens", result.prompt_tokens},
      {"chunks_total", result.chunks_total},
      {"chunks_reused", result.chunks_reused},
      {"recomputed_chunks", result.recomputed_chunks},
      {"data_loss", result.data_loss},
      {"stored_chunks", result.stored_chunks},
      {"existing_chunks", result.existing_chunks},
      {"private_chunks", result.private_chunks},
      {"private_reason", result.private_reason},
      {"chunks_written_in_place", result.written_in_place},
      {"blocks_read_in_place", result.in_place.blocks_viewed},
      {"prefix_bytes_copied", result.in_place.bytes_fetched},
      {"other_bytes_copied", result.in_place.bytes_copied},
      {"moves_followed", result.in_place.moves},
      {"moved_between_reads", result.in_place.moved_between_reads},
      {"reports", result.reports},
      {"fetched_bytes_by_pool", result.fetched_bytes_by_pool},
      {"store_errors", result.store_errors},
      {"last_error", result.last_error},
      {"generated", Hex(result.generated)},
      {"distinct_bytes", result.distinct_bytes()},
      {"first_k_block_head", Hex(result.first_k_block_head)},
      {"fetch_seconds", result.fetch_seconds},
      {"prefill_seconds", result.prefill_seconds},
      {"decode_seconds", result.decode_seconds},
  };
}

std::string PromptLine(const NamedResult& named) {
  const PromptResult& result = named.result;
  std::string line = absl::StrFormat(
      "%s: %d tokens, %d of %d chunks reused, %d generated (%d distinct bytes), %d chunks stored; "
      "fetch %.1f ms, prefill %.1f ms, decode %.1f ms",
      named.prompt, result.prompt_tokens, result.chunks_reused, result.chunks_total,
      result.generated.size(), result.distinct_bytes(), result.stored_chunks,
      Milliseconds(result.fetch_seconds), Milliseconds(result.prefill_seconds),
      Milliseconds(result.decode_seconds));
  if (result.in_place.moved_between_reads > 0) {
    absl::StrAppend(&line, "; ", result.in_place.moved_between_reads,
                    " blocks read before and after a move");
  }
  if (result.data_loss > 0) {
    absl::StrAppend(&line, "; ", result.data_loss, " damaged blocks, ", result.recomputed_chunks,
                    " chunks recomputed");
  }
  if (result.private_chunks > 0) {
    absl::StrAppend(&line, "; ", result.private_chunks,
                    " chunks kept private: ", result.private_reason);
  }
  if (!result.last_error.empty()) absl::StrAppend(&line, "; last error: ", result.last_error);
  return line;
}

OrderedJson RunJson(const RunHeader& header, const std::vector<NamedResult>& results) {
  OrderedJson prompts = OrderedJson::array();
  for (const NamedResult& named : results) prompts.push_back(PromptJson(named));
  return OrderedJson{
      {"store", header.store},
      {"transport", header.transport},
      {"model_fingerprint", header.fingerprint},
      {"kv_dtype", KvTypeName(header.geometry.type)},
      {"chunk_tokens", header.geometry.chunk_tokens},
      {"chunk_bytes", header.geometry.chunk_bytes()},
      {"planes", header.geometry.planes()},
      {"prompts", std::move(prompts)},
      {"totals", TotalsJson(results)},
      {"seconds", header.seconds},
  };
}

}  // namespace kvtier::examples
