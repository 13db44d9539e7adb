#pragma once

// What a run of the worker prints: a line a prompt for people, one JSON object for programs.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/examples/prompt_runner.h"

namespace kvtier::examples {

struct NamedResult {
  std::string prompt;  // "text 1" or the file's path
  size_t round = 1;
  PromptResult result;
};

// What stays the same through a run.
struct RunHeader {
  std::string store;      // "local" or the socket's path
  std::string transport;  // "local", "stream", "shared_memory", or "none" while no daemon answers
  std::string fingerprint;
  KvGeometry geometry;
  double seconds = 0;
};

// "docs/cli.md: 1024 tokens, 40 of 64 chunks reused, 96 generated (61 distinct bytes), ..."
std::string PromptLine(const NamedResult& named);

// One entry of "prompts" of RunJson.
nlohmann::ordered_json PromptJson(const NamedResult& named);

nlohmann::ordered_json RunJson(const RunHeader& header, const std::vector<NamedResult>& results);

}  // namespace kvtier::examples
