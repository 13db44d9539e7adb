// One session of a coding agent in a file: block_size, tool_tokens, system_tokens and requests[],
// of which one may be a sub-agent with requests[] of its own.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "sim/json_record.h"
#include "sim/trace_reader.h"

namespace kvtier::sim {
namespace {

constexpr size_t kRecordTextBytesMax = 1024;

// FNV-1a, 64 bits, with the length of each part first so that parts cannot run into each other.
class ScopeHash {
 public:
  void Add(std::string_view part) {
    Add(part.size());
    for (const char c : part) AddByte(static_cast<uint8_t>(c));
  }
  void Add(uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8) AddByte(static_cast<uint8_t>(number >> shift));
  }
  // Never 0, which is the scope of ids that are the trace's own.
  uint64_t scope() const { return hash_ == 0 ? 1 : hash_; }

 private:
  void AddByte(uint8_t byte) { hash_ = (hash_ ^ byte) * 0x100000001b3ull; }
  uint64_t hash_ = 0xcbf29ce484222325ull;
};

// What an agent's requests have in common.
struct Agent {
  double start_s = 0;
  uint64_t tool_tokens = 0;
  uint64_t system_tokens = 0;
  uint64_t scope = 0;
  int depth = 0;
};

class SessionReader {
 public:
  explicit SessionReader(Trace& trace) : trace_(trace) {}

  absl::Status Read(const Json& json, const std::string& name, const std::string& place) {
    auto record = JsonRecord::Of(json, place);
    if (!record.ok()) return record.status();
    auto block_tokens = record->Count("block_size", 1, kBlockTokensMax);
    if (!block_tokens.ok()) return block_tokens.status();
    if (trace_.block_tokens != 0 && trace_.block_tokens != *block_tokens) {
      return record->Error(absl::StrCat("block_size is ", *block_tokens, ", of sessions before it ",
                                        trace_.block_tokens, "; one replay has one"));
    }
    trace_.block_tokens = static_cast<uint32_t>(*block_tokens);
    auto id = record->TextOrEmpty("id", kRecordTextBytesMax);
    if (!id.ok()) return id.status();
    auto id_scope = record->TextOrEmpty("hash_id_scope", kRecordTextBytesMax);
    if (!id_scope.ok()) return id_scope.status();
    Agent agent;
    if (*id_scope != "global") {
      ScopeHash hash;
      hash.Add("session");
      hash.Add(name);
      hash.Add(*id);
      agent.scope = hash.scope();
    }
    return ReadAgent(*record, agent);
  }

 private:
  absl::Status ReadAgent(const JsonRecord& record, Agent agent) {
    for (auto [field, tokens] :
         {std::pair{"tool_tokens", &agent.tool_tokens}, {"system_tokens", &agent.system_tokens}}) {
      auto number = record.CountOr(field, 0, kTokensMax);
      if (!number.ok()) return number.status();
      *tokens = *number;
    }
    auto list = record.List("requests");
    if (!list.ok()) return list.status();
    for (size_t i = 0; i < (*list)->size(); ++i) {
      auto request =
          JsonRecord::Of((**list)[i], absl::StrCat(record.place(), ": requests[", i, "]"));
      if (!request.ok()) return request.status();
      absl::Status status = ReadRequest(*request, agent);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadRequest(const JsonRecord& record, const Agent& agent) {
    auto t = record.Number("t", kTraceSecondsMax);
    if (!t.ok()) return t.status();
    if (record.Has("requests")) {
      if (agent.depth + 1 > kAgentDepthMax) {
        return record.Error(
            absl::StrCat("agents nest ", agent.depth + 1, " deep; the limit is ", kAgentDepthMax));
      }
      return ReadAgent(
          record, {.start_s = agent.start_s + *t, .scope = agent.scope, .depth = agent.depth + 1});
    }
    auto tokens = record.CountOr("in", 0, kTokensMax);
    if (!tokens.ok()) return tokens.status();
    auto answer_tokens = record.CountOr("out", 0, kTokensMax);
    if (!answer_tokens.ok()) return answer_tokens.status();
    auto model = record.TextOrEmpty("model", kRecordTextBytesMax);
    if (!model.ok()) return model.status();
    if (trace_.requests.size() >= kRequestsMax)
      return record.Error(
          absl::StrCat("the trace has more than ", kRequestsMax, " requests, which is the limit"));
    TraceRequest request;
    request.at_s = agent.start_s + *t;
    request.first_block = trace_.ids.size();
    auto blocks = record.HashIds(kIdsMax - trace_.ids.size(), trace_.ids);
    if (!blocks.ok()) return blocks.status();
    request.tokens = *tokens;
    request.block_count = *blocks;
    request.scope = agent.scope;
    // Whole blocks only: the one after them has tokens of the conversation. Of another model, or
    // with other tools in front, the same system prompt has other keys and values.
    if (agent.scope != 0) {
      ScopeHash hash;
      hash.Add("tools");
      hash.Add(*model);
      hash.Add(agent.tool_tokens);
      request.shared_scope = hash.scope();
      request.shared_blocks = static_cast<uint32_t>(std::min<uint64_t>(
          *blocks, (agent.tool_tokens + agent.system_tokens) / trace_.block_tokens));
    }
    trace_.requests.push_back(request);
    return absl::OkStatus();
  }

  Trace& trace_;
};

}  // namespace

absl::Status AppendSession(std::string_view text, const std::string& name, const std::string& place,
                           Trace& trace) {
  // Each agent adds a list and an object; other fields may nest as well.
  auto json = ParseJson(text, place, 2 * kAgentDepthMax + 16);
  if (!json.ok()) return json.status();
  if (trace.sessions.size() >= kSessionsMax) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": there are more than ", kSessionsMax,
                                                   " sessions, which is the limit"));
  }
  const size_t first = trace.requests.size();
  absl::Status status = SessionReader(trace).Read(*json, name, place);
  if (!status.ok()) return status;
  // Requests of sub-agents stand where their agent does; what they did at the same time as others
  // goes between those.
  std::stable_sort(trace.requests.begin() + static_cast<std::ptrdiff_t>(first),
                   trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) { return a.at_s < b.at_s; });
  trace.sessions.push_back({first, trace.requests.size() - first});
  return absl::OkStatus();
}

}  // namespace kvtier::sim
