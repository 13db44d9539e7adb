// One JSON object a line: timestamp (ms), input_length, output_length (tokens), hash_ids.
#include "client/cli/replay/json_record.h"
#include "client/cli/replay/trace_reader.h"

namespace kvtier::replay {

namespace {
constexpr int kDepthMax = 16;  // fields that are not read may nest
}  // namespace

absl::Status AppendMooncakeLine(std::string_view line, const std::string& place, Trace& trace) {
  auto json = ParseJson(line, place, kDepthMax);
  if (!json.ok()) return json.status();
  auto record = JsonRecord::Of(*json, place);
  if (!record.ok()) return record.status();
  auto timestamp_ms = record->Number("timestamp", kTraceSecondsMax * 1000);
  if (!timestamp_ms.ok()) return timestamp_ms.status();
  for (const char* length : {"input_length", "output_length"}) {
    auto tokens = record->Count(length, 0, kTokensMax);
    if (!tokens.ok()) return tokens.status();
  }
  TraceRequest request;
  request.at_s = *timestamp_ms / 1000;
  request.first_block = trace.ids.size();
  auto blocks = record->HashIds(kIdsMax - trace.ids.size(), trace.ids);
  if (!blocks.ok()) return blocks.status();
  request.block_count = *blocks;
  trace.requests.push_back(request);
  return absl::OkStatus();
}

}  // namespace kvtier::replay
