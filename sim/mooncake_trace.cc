// One JSON object a line: timestamp (ms), input_length, output_length (tokens), hash_ids, which are
// those of the whole blocks of the prompt and of what is left behind them.
#include <bit>
#include <optional>

#include "absl/strings/str_cat.h"
#include "sim/json_record.h"
#include "sim/trace_reader.h"

namespace kvtier::sim {

namespace {
constexpr int kDepthMax = 16;  // fields that are not read may nest

uint64_t BlocksOf(uint64_t tokens, uint64_t block_tokens) {
  return tokens / block_tokens + (tokens % block_tokens == 0 ? 0 : 1);
}

// A size of block that cuts a prompt into so many, if any does: a power of two if one is among
// those that do, as it nearly always was.
std::optional<uint64_t> BlockTokensFor(uint64_t tokens, uint64_t blocks) {
  if (tokens == 0 || blocks == 0) return std::nullopt;
  const uint64_t least = BlocksOf(tokens, blocks);
  for (const uint64_t size : {std::bit_ceil(least), least}) {
    if (size <= kBlockTokensMax && BlocksOf(tokens, size) == blocks) return size;
  }
  return std::nullopt;
}

// With blocks of another size all that is counted and stored would be of another size, too.
absl::Status CheckBlocks(const JsonRecord& record, uint64_t tokens, uint64_t blocks,
                         uint64_t block_tokens) {
  const uint64_t needed = BlocksOf(tokens, block_tokens);
  if (needed == blocks) return absl::OkStatus();
  const std::optional<uint64_t> fitting = BlockTokensFor(tokens, blocks);
  return record.Error(absl::StrCat(
      "hash_ids has ", blocks, " ids, input_length ", tokens, " needs ", needed, " of ",
      block_tokens, " tokens; ",
      fitting ? absl::StrCat("--block-tokens ", *fitting, " fits") : "no --block-tokens fits"));
}
}  // namespace

absl::Status AppendMooncakeLine(std::string_view line, const std::string& place, Trace& trace) {
  auto json = ParseJson(line, place, kDepthMax);
  if (!json.ok()) return json.status();
  auto record = JsonRecord::Of(*json, place);
  if (!record.ok()) return record.status();
  auto timestamp_ms = record->Number("timestamp", kTraceSecondsMax * 1000);
  if (!timestamp_ms.ok()) return timestamp_ms.status();
  auto input_tokens = record->Count("input_length", 0, kTokensMax);
  if (!input_tokens.ok()) return input_tokens.status();
  auto output_tokens = record->Count("output_length", 0, kTokensMax);
  if (!output_tokens.ok()) return output_tokens.status();
  TraceRequest request;
  request.at_s = *timestamp_ms / 1000;
  request.first_block = trace.ids.size();
  auto blocks = record->HashIds(kIdsMax - trace.ids.size(), trace.ids);
  if (!blocks.ok()) return blocks.status();
  absl::Status fits = CheckBlocks(*record, *input_tokens, *blocks, trace.block_tokens);
  if (!fits.ok()) return fits;
  request.tokens = *input_tokens;
  request.block_count = *blocks;
  trace.requests.push_back(request);
  return absl::OkStatus();
}

}  // namespace kvtier::sim
